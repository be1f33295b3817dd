"""Reports of a new node about its base backup.

The node writes the report as JSON under `keys.base_backup_report(member)`; the cluster reads it.
"""

import enum

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import bounded_json


class BaseBackupState(enum.StrEnum):
    """The state of a base backup."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


class BaseBackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a base backup.

    Sizes are in bytes; `rate` in bytes a second (smoothed); `seconds_left` is unset until it can be
    estimated. `error` is set when FAILED. `temporary`: the node itself tries again; FAILED without
    it is final until the node is restarted. `attempt` counts from 1: each starts at 0 bytes.
    """

    state: BaseBackupState
    bytes_done: int = 0
    bytes_total: int = 0
    rate: float = 0.0
    seconds_left: float | None = None
    error: str | None = None
    temporary: bool = False
    attempt: int = 1


def encode(report: BaseBackupReport) -> bytes:
    """Encode a report for the store."""
    return msgspec.json.encode(report)


def decode(data: bytes) -> BaseBackupReport:
    """Decode a report from the store. Raises msgspec.DecodeError."""
    return bounded_json.decode(data, BaseBackupReport)


prepare(__name__)
