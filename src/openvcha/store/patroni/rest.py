"""What a Patroni reports of its PostgreSQL over REST (``GET /patroni``), as a type."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from openvcha.store import keys
from openvcha.store.bounded_json import json_object

Fields = dict[str, Any]


@dataclass(frozen=True)
class PatroniNode:
    """What one Patroni says of its PostgreSQL. ``state`` is Patroni's word: ``streaming``…"""

    role: str
    state: str
    timeline: int | None
    replication: tuple[str, ...]
    """Members that stream from this node, when it is the primary."""
    alone: bool = False
    """Whether its Patroni lets it go on without the others."""
    synchronous: tuple[str, ...] = ()
    """Those of them that this node's commits wait for."""
    member: str | None = None
    """Its own name, where it says it."""
    started: str = ""
    """When this PostgreSQL was started, in its own words."""
    lsn: int | None = None
    """How far its log is written, or was received (bytes)."""
    last_row: str | None = None
    """When the last transaction was committed that a standby has replayed, in its own words."""

    @property
    def primary(self) -> bool:
        """Return whether this PostgreSQL takes writes."""
        return self.role in {"primary", "master"} and self.state == "running"

    @property
    def replica(self) -> bool:
        """Return whether this PostgreSQL is a standby, or was one when it was stopped."""
        return self.role == "replica"

    @property
    def stopped(self) -> bool:
        """Return whether Patroni knows that this PostgreSQL does not run."""
        return self.state == "stopped"

    @property
    def streaming(self) -> bool:
        """Return whether this PostgreSQL is a standby that receives WAL."""
        return self.replica and self.state == "streaming"


def read_node(page: bytes) -> PatroniNode | None:
    """Read the body of a response; None if it is no JSON object."""
    fields = json_object(page)
    return None if fields is None else node_of(fields)


def node_of(fields: Fields) -> PatroniNode:
    """Read the fields of a response; one of another form is unknown."""
    streams = [_object(each) for each in _list(fields.get("replication"))]
    xlog = _object(fields.get("xlog"))
    return PatroniNode(
        role=str(fields.get("role", "")),
        # A standby's replication state, where Patroni distinguishes it from ``running``.
        state=str(fields.get("replication_state") or fields.get("state", "")),
        timeline=_number(fields.get("timeline")),
        replication=_standbys(streams, "state", "streaming"),
        alone=bool(_object(fields.get("tags")).get(keys.ALONE)),
        synchronous=_standbys(streams, "sync_state", "sync", "quorum"),
        member=_text(_object(fields.get("patroni")).get("name")),
        started=str(fields.get("postmaster_start_time") or ""),
        lsn=_position(xlog),
        last_row=_text(xlog.get("replayed_timestamp")),
    )


def _position(xlog: Fields) -> int | None:
    told = (xlog.get(name) for name in ("location", "received_location", "replayed_location"))
    return max((place for place in told if isinstance(place, int)), default=None)


def _standbys(streams: Iterable[Fields], field: str, *wanted: str) -> tuple[str, ...]:
    """Return the names of the connections whose ``field`` is one of those wanted."""
    return tuple(
        name
        for each in streams
        if each.get(field) in wanted and (name := _text(each.get("application_name")))
    )


def _object(value: object) -> Fields:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
