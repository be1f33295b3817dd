"""How a node tells the cluster about the copy of the data that it makes.

The report stands under `keys.node_copy(member)` as JSON: the node writes it, the cluster reads it.
"""

import enum

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import bounded_json


class CopyState(enum.StrEnum):
    """Where a copy stands."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


class CopyReport(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a copy.

    Bytes; `rate` in bytes a second (smoothed); `seconds_left` unset while nothing can be said.
    `error` is set when FAILED. `temporary` says that the node itself tries again;
    FAILED and not temporary is final until the node is started again.
    `attempt` counts from 1: a new attempt starts at 0 bytes.
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
    """Write a report for the store."""
    return msgspec.json.encode(report)


def decode(data: bytes) -> CopyReport:
    """Read a report from the store; raises msgspec.DecodeError."""
    return bounded_json.decode(data, CopyReport)


prepare(__name__)
