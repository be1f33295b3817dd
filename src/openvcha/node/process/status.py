"""The supervisor's status file."""

import enum
from pathlib import Path

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.layout import Layout
from openvcha.store.base_backup_reports import BaseBackupReport
from openvcha.system.files.durable import NO_SPACE, overwrite, write_private
from openvcha.system.files.regular_files import read_regular

BOOTSTRAP = "bootstrap"
"""The note that says what a node waits for before it has joined, or why it was refused."""


class PartState(enum.StrEnum):
    """The state of a part."""

    WAITING = "WAITING"  # for what it needs: the store, or the data
    RUNNING = "RUNNING"
    BACKING_OFF = "BACKING_OFF"
    STOPPED = "STOPPED"


class PartStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a part; `last_exit` says why it last ended."""

    name: str
    state: PartState
    pid: int | None = None
    restarts: int = 0
    last_exit: str | None = None


class LocalRole(enum.StrEnum):
    """A node's role as this node sees it; UNKNOWN without a leader, or without the store."""

    ACTIVE = "ACTIVE"
    PASSIVE = "PASSIVE"
    WITNESS = "WITNESS"
    UNKNOWN = "UNKNOWN"


class Contact(enum.StrEnum):
    """Whether the node is in contact with a majority of the cluster."""

    STARTING = "STARTING"  # not yet since its start
    CONNECTED = "CONNECTED"
    ISOLATED = "ISOLATED"


class OwnView(msgspec.Struct, frozen=True, kw_only=True):
    """The node's view of itself; ``role`` is the last one that the cluster confirmed.

    ``since`` (ISO 8601) is when ``contact`` last changed. ``writable`` is None if unknown.
    ``waits_for`` are the members that do not respond while there is no quorum. ``in_sync``: whether
    the cluster last confirmed that the node has every acknowledged row.
    """

    role: LocalRole
    contact: Contact
    since: str
    writable: bool | None = None
    waits_for: tuple[str, ...] = ()
    in_sync: bool | None = None


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a node; `pid` and `started` (clock ticks since boot) are the supervisor's.

    `notes` are messages of the background jobs, by job: what they do or what blocks them.
    """

    member: str
    kind: str
    pid: int
    started: int
    parts: tuple[PartStatus, ...] = ()
    copy: BaseBackupReport | None = None
    notes: dict[str, str] = {}
    view: OwnView | None = None


def save_status(directory: Path, status: NodeStatus) -> None:
    """Replace the status; on a full disk overwrite the last one. Raises OSError."""
    path, data = Layout(directory).status, msgspec.json.encode(status)
    try:
        write_private(path, data)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        overwrite(path, data)


def read_status(content: bytes) -> NodeStatus | None:
    """Return the status in the content of its file; None if it is unreadable."""
    try:
        return msgspec.json.decode(content, type=NodeStatus)
    except msgspec.DecodeError:
        return None


def load_status(directory: Path) -> NodeStatus | None:
    """Return the last supervisor's status; None if it is missing or unreadable."""
    try:
        return read_status(read_regular(Layout(directory).status))
    except OSError:
        return None


prepare(__name__)
