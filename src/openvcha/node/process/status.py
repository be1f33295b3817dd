"""What the supervisor writes down about itself, for whoever asks from outside."""

import enum
from pathlib import Path

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.layout import Layout
from openvcha.store.clone_reports import CopyReport
from openvcha.system.durable import write_private


class PartState(enum.StrEnum):
    """Where one part stands."""

    WAITING = "WAITING"  # for what it needs: the store, or the data
    RUNNING = "RUNNING"
    BACKING_OFF = "BACKING_OFF"
    STOPPED = "STOPPED"


class PartStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One part; `last_exit` says why it ended the last time."""

    name: str
    state: PartState
    pid: int | None = None
    restarts: int = 0
    last_exit: str | None = None


class Role(enum.StrEnum):
    """What a node is in the cluster; UNKNOWN while nobody leads or nobody could be asked yet."""

    ACTIVE = "ACTIVE"
    PASSIVE = "PASSIVE"
    WITNESS = "WITNESS"
    UNKNOWN = "UNKNOWN"


class Contact(enum.StrEnum):
    """Whether the node is in touch with a majority of the cluster."""

    STARTING = "STARTING"  # not once yet
    CONNECTED = "CONNECTED"
    ISOLATED = "ISOLATED"


class OwnView(msgspec.Struct, frozen=True, kw_only=True):
    """How the node sees itself; ``role`` is the last one that the cluster confirmed.

    ``since`` (ISO 8601) is when ``contact`` became what it is. ``writable`` is None where nobody
    can say. ``waits_for`` names the members that do not answer while the majority is missed.
    ``in_sync`` is whether the cluster last confirmed that the node has every acknowledged row.
    """

    role: Role
    contact: Contact
    since: str
    writable: bool | None = None
    waits_for: tuple[str, ...] = ()
    in_sync: bool | None = None


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node; `pid` and `started` (clock ticks since boot) are the supervisor's.

    `notes` are sentences of its duties, by their names: what they do or what hinders them.
    """

    member: str
    kind: str
    pid: int
    started: int
    parts: tuple[PartStatus, ...] = ()
    copy: CopyReport | None = None
    notes: dict[str, str] = {}
    view: OwnView | None = None


def save_status(directory: Path, status: NodeStatus) -> None:
    """Replace the status; raises OSError."""
    write_private(Layout(directory).status, msgspec.json.encode(status))


def load_status(directory: Path) -> NodeStatus | None:
    """Read what the last supervisor wrote; None when there is nothing readable."""
    try:
        return msgspec.json.decode(Layout(directory).status.read_bytes(), type=NodeStatus)
    except (OSError, msgspec.DecodeError):
        return None


prepare(__name__)
