"""Patroni's keys in the store: a reader and a type for each, and a result for what is none.

Whoever has a vote may write there what he likes. All go by these readers, Patroni too (see
``node.patroni.patches.key_forms``), so that nobody acts on a value that another one takes for none.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from openvcha.store import keys
from openvcha.store.bounded_json import json_list, json_object
from openvcha.store.errors import RecordInvalid
from openvcha.store.interface import KeyValue
from openvcha.store.patroni.dynamic import Sifted, sift

LONGEST_NAME: Final = 255
MOST_NAMES: Final = 128
MOST_LINES: Final = 10_000
MOST: Final = 1 << 64
_IDENTIFIER: Final = re.compile(r"[0-9]{0,20}")
_SLOT: Final = re.compile(r"[a-z0-9_]{1,63}")

T = TypeVar("T")
Text = bytes | str
Fields = dict[str, Any]
Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Unreadable:
    """What a value is that has not the form in which Patroni writes it: nothing follows from it."""

    reason: str


@dataclass(frozen=True)
class SyncState:
    """Patroni's ``/sync``: who may take over without losing an acknowledged write.

    ``leader`` is who led last; ``standbys`` have every row that it acknowledged.
    """

    leader: str | None
    standbys: frozenset[str]


@dataclass(frozen=True)
class FailoverRequest:
    """Patroni's ``/failover``: whom it is asked to switch from and to; it may name nobody."""

    leader: str | None = None
    member: str | None = None
    candidate: str | None = None


@dataclass(frozen=True)
class LeaderStatus:
    """Patroni's ``/status``: how far the leader's log was (bytes); None: it does not say."""

    position: int | None


@dataclass(frozen=True)
class TimelineEnd:
    """A line of Patroni's ``/history``: where (bytes) a timeline was left, and why."""

    timeline: int
    position: int
    reason: str


@dataclass(frozen=True)
class MemberState:
    """What one Patroni writes of itself at the end of each round; a text it does not say is empty.

    ``settings`` are those of ``keys.SETTINGS`` that it went by in that round. ``timeline`` and the
    positions (bytes) are of its PostgreSQL.
    """

    role: str = ""
    state: str = ""
    replication_state: str = ""
    timeline: int | None = None
    receive_lsn: int | None = None
    replay_lsn: int | None = None
    conn_url: str = ""
    api_url: str = ""
    settings: frozenset[str] = frozenset()

    @property
    def primary(self) -> bool:
        """Return whether its PostgreSQL takes writes."""
        return self.role in {"primary", "master"} and self.state == "running"

    @property
    def streams(self) -> bool:
        """Return whether its PostgreSQL is a standby that receives WAL."""
        return self.replication_state == "streaming"


def sound(key: str, found: T | Unreadable) -> T:
    """Return what was read under a key. Raises RecordInvalid when that is nothing."""
    if isinstance(found, Unreadable):
        raise RecordInvalid(key, found.reason)
    return found


def read_sync(value: Text | None) -> SyncState | Unreadable:
    """Read ``/sync``; nothing there is a cluster without a standby that may take over."""
    found = _object(value, leader=is_name, sync_standby=is_name, quorum=is_count) if value else {}
    if isinstance(found, Unreadable):
        return found
    names = (found.get("sync_standby") or "").split(",")
    return SyncState(found.get("leader"), frozenset(name for name in names if name))


def parse_sync(value: bytes) -> SyncState:
    """Read ``/sync`` as ``read_sync`` does. Raises RecordInvalid."""
    return sound(keys.PATRONI_SYNC, read_sync(value))


def read_leader(value: bytes) -> str:
    """Read who holds ``/leader``; what is no UTF-8 is no node's name, and somebody all the same."""
    return value.decode(errors="backslashreplace")


def read_failover(value: Text) -> FailoverRequest | Unreadable:
    """Read ``/failover``. Nothing here is ever scheduled; Patroni empties the key, too."""
    names = {"leader": is_name, "member": is_name, "candidate": is_name}
    found = _object(value, **names, scheduled_at=lambda _: False) if value else {}
    if isinstance(found, Unreadable):
        return found
    return FailoverRequest(**{name: found.get(name) for name in names})


def read_config(value: Text | None) -> Sifted | Unreadable:
    """Read ``/config``: what Patroni takes of it."""
    found = json_object(value or b"")
    return Unreadable("no object of JSON") if found is None else sift(found)


def read_status(value: Text | None) -> LeaderStatus | Unreadable:
    """Read ``/status``."""
    found = _object(value or b"", optime=is_count, slots=_slots, retain_slots=_retained)
    if isinstance(found, Unreadable):
        return found
    return LeaderStatus(found.get("optime") or None)


def read_history(value: Text) -> tuple[TimelineEnd, ...] | Unreadable:
    """Read ``/history``."""
    lines = json_list(value)
    if lines is None or len(lines) > MOST_LINES or not all(map(_line, lines)):
        return Unreadable("not the lines that Patroni writes there")
    return tuple(TimelineEnd(*line[:3]) for line in lines)


def read_member(value: Text | None) -> MemberState | Unreadable:
    """Read ``/members/NAME``; a field of another form is not known."""
    found = json_object(value or b"")
    if found is None:
        return Unreadable("no object of JSON")
    texts = ("role", "state", "replication_state", "conn_url", "api_url")
    counts = ("timeline", "receive_lsn", "replay_lsn")
    return MemberState(
        **{name: found[name] for name in texts if isinstance(found.get(name), str)},
        **{name: found[name] for name in counts if is_count(found.get(name))},
        settings=_settings(found),
    )


def read_members(found: Iterable[KeyValue]) -> dict[str, MemberState]:
    """Read those members that can be read, by their names."""
    states = {kv.key.removeprefix(keys.PATRONI_MEMBERS): read_member(kv.value) for kv in found}
    return {name: one for name, one in states.items() if not isinstance(one, Unreadable)}


def read_failsafe(value: Text) -> Mapping[str, str | None] | Unreadable:
    """Read ``/failsafe``: URLs by members; None for what is none."""
    found = json_object(value)
    if found is None:
        return Unreadable("no object of JSON")
    return {name: url if isinstance(url, str) else None for name, url in found.items()}


def paused(config: bytes | None) -> bool | None:
    """Return whether Patroni's configuration has a pause; None: unknown."""
    found = read_config(config)
    return None if isinstance(found, Unreadable) else bool(found.kept.get(keys.PAUSE))


def leader_position(status: bytes | None) -> int | None:
    """Return from ``/status`` how far the leader's log was (bytes); None: unknown."""
    found = read_status(status)
    return None if isinstance(found, Unreadable) else found.position


def is_name(value: object) -> bool:
    """Return whether a value may be a member's name, or some with commas between."""
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_NAME


def is_count(value: object) -> bool:
    """Return whether a value is a number of 64 bits that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


def is_system(value: str) -> bool:
    """Return whether ``/initialize`` may be a system's identifier; none is one, too."""
    return _IDENTIFIER.fullmatch(value) is not None


def lsn_text(lsn: int) -> str:
    """Write a position as PostgreSQL does."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def _object(value: Text, **forms: Check) -> Fields | Unreadable:
    """Read an object in which each of these fields has its form, or is null, or not there."""
    found = json_object(value)
    if found is None:
        return Unreadable("no object of JSON")
    for name, form in forms.items():
        if found.get(name) is not None and not form(found[name]):
            return Unreadable(f"{name} is not what Patroni writes there")
    return found


def _settings(member: Fields) -> frozenset[str]:
    """Read a member's settings: its pause is a field, the others are tags."""
    tags = member.get("tags")
    fields = {**(tags if isinstance(tags, dict) else {}), keys.PAUSE: member.get("pause")}
    return frozenset(name for name in keys.SETTINGS if fields.get(name))


def _slot(value: Any) -> bool:
    return isinstance(value, str) and _SLOT.fullmatch(value) is not None


def _slots(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MOST_NAMES
        and all(_slot(name) and is_count(place) for name, place in value.items())
    )


def _retained(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_NAMES and all(map(_slot, value))


def _line(line: Any) -> bool:
    return (
        isinstance(line, list)
        and len(line) >= len(("timeline", "place", "reason"))
        and all(map(is_count, line[:2]))
        and all(isinstance(word, str) for word in line[2:])
    )
