"""Reports of a new node about its copy of the data.

The node writes the report as JSON under `keys.node_copy(member)`; the cluster reads it.
"""

import enum

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import bounded_json


class CopyState(enum.StrEnum):
    """The state of a copy."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


class CopyReport(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a copy.

    Sizes are in bytes; `rate` in bytes a second (smoothed); `seconds_left` is unset until it can be
    estimated. `error` is set when FAILED. `temporary`: the node itself tries again; FAILED without
    it is final until the node is restarted. `attempt` counts from 1: each starts at 0 bytes.
    """

    state: CopyState
    bytes_done: int = 0
    bytes_total: int = 0
    rate: float = 0.0
    seconds_left: float | None = None
    error: str | None = None
    temporary: bool = False
    attempt: int = 1


def encode(report: CopyReport) -> bytes:
    """Encode a report for the store."""
    return msgspec.json.encode(report)


def decode(data: bytes) -> CopyReport:
    """Decode a report from the store. Raises msgspec.DecodeError."""
    return bounded_json.decode(data, CopyReport)


prepare(__name__)
