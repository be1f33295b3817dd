"""Readers of Patroni's keys in the store: a type for each, and ``Unreadable`` for an invalid value.

Any voter can write there. All programs use these readers, including Patroni (see
``node.patroni.patches.key_forms``): so none acts on a value that another one ignores.
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
    """A value that does not have the form in which Patroni writes it: it implies nothing."""

    reason: str


@dataclass(frozen=True)
class SyncState:
    """Patroni's ``/sync``: the members that may take over without losing an acknowledged write.

    ``leader`` is the last leader; ``standbys`` have every row that it acknowledged.
    """

    leader: str | None
    standbys: frozenset[str]


@dataclass(frozen=True)
class FailoverRequest:
    """Patroni's ``/failover``: the members to switch from and to; all None means no request."""

    leader: str | None = None
    member: str | None = None
    candidate: str | None = None


@dataclass(frozen=True)
class LeaderStatus:
    """Patroni's ``/status``: the leader's WAL position (bytes); None if it is unknown."""

    position: int | None


@dataclass(frozen=True)
class TimelineEnd:
    """A line of Patroni's ``/history``: where (bytes) a timeline ended, and why.

    ``successor`` is the member whose promotion began the next one; None if it is unknown.
    """

    timeline: int
    position: int
    reason: str
    successor: str | None = None


@dataclass(frozen=True)
class MemberState:
    """The report of a Patroni at the end of each round; an unknown text is empty.

    ``settings`` are those of ``keys.SETTINGS`` that were in effect in that round. ``timeline`` and
    the positions (bytes) are those of its PostgreSQL.
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
        """Return whether its PostgreSQL accepts writes."""
        return self.role in {"primary", "master"} and self.state == "running"

    @property
    def streams(self) -> bool:
        """Return whether its PostgreSQL is a standby that receives WAL."""
        return self.replication_state == "streaming"


def sound(key: str, found: T | Unreadable) -> T:
    """Return the value read under a key. Raises RecordInvalid if it is unreadable."""
    if isinstance(found, Unreadable):
        raise RecordInvalid(key, found.reason)
    return found


def read_sync(value: Text | None) -> SyncState | Unreadable:
    """Read ``/sync``; without a value no standby may take over."""
    found = _object(value, leader=is_name, sync_standby=is_name, quorum=is_count) if value else {}
    if isinstance(found, Unreadable):
        return found
    names = (found.get("sync_standby") or "").split(",")
    return SyncState(found.get("leader"), frozenset(name for name in names if name))


def parse_sync(value: bytes) -> SyncState:
    """Read ``/sync`` as ``read_sync`` does. Raises RecordInvalid."""
    return sound(keys.PATRONI_SYNC, read_sync(value))


def read_leader(value: bytes) -> str:
    """Return the holder of ``/leader``; invalid UTF-8 is a holder, too, but none of our nodes."""
    return value.decode(errors="backslashreplace")


def read_failover(value: Text) -> FailoverRequest | Unreadable:
    """Read ``/failover``, which Patroni may empty. Scheduled ones are unreadable: we use none."""
    names = {"leader": is_name, "member": is_name, "candidate": is_name}
    found = _object(value, **names, scheduled_at=lambda _: False) if value else {}
    if isinstance(found, Unreadable):
        return found
    return FailoverRequest(**{name: found.get(name) for name in names})


def read_config(value: Text | None) -> Sifted | Unreadable:
    """Read ``/config``: the settings that Patroni accepts from it."""
    found = json_object(value or b"")
    return Unreadable("not a JSON object") if found is None else sift(found)


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
    return tuple(TimelineEnd(*line[:3], *line[4:5]) for line in lines)


def read_member(value: Text | None) -> MemberState | Unreadable:
    """Read ``/members/NAME``; an invalid field is unknown."""
    found = json_object(value or b"")
    if found is None:
        return Unreadable("not a JSON object")
    texts = ("role", "state", "replication_state", "conn_url", "api_url")
    counts = ("timeline", "receive_lsn", "replay_lsn")
    return MemberState(
        **{name: found[name] for name in texts if isinstance(found.get(name), str)},
        **{name: found[name] for name in counts if is_count(found.get(name))},
        settings=_settings(found),
    )


def read_members(found: Iterable[KeyValue]) -> dict[str, MemberState]:
    """Read members, by name, except unreadable ones."""
    states = {kv.key.removeprefix(keys.PATRONI_MEMBERS): read_member(kv.value) for kv in found}
    return {name: one for name, one in states.items() if not isinstance(one, Unreadable)}


def read_failsafe(value: Text) -> Mapping[str, str | None] | Unreadable:
    """Read ``/failsafe``: URLs by member; None for a value that is not a text."""
    found = json_object(value)
    if found is None:
        return Unreadable("not a JSON object")
    return {name: url if isinstance(url, str) else None for name, url in found.items()}


def paused(config: bytes | None) -> bool | None:
    """Return whether ``/config`` pauses Patroni; None if it is unknown."""
    found = read_config(config)
    return None if isinstance(found, Unreadable) else bool(found.kept.get(keys.PAUSE))


def leader_ttl(config: Sifted | Unreadable) -> int | None:
    """Return the leader key's ttl (seconds) from ``/config``; None if it is unknown."""
    return None if isinstance(config, Unreadable) else config.kept.get("ttl")


def leader_position(status: bytes | None) -> int | None:
    """Return the leader's WAL position (bytes) from ``/status``; None if it is unknown."""
    found = read_status(status)
    return None if isinstance(found, Unreadable) else found.position


def is_name(value: object) -> bool:
    """Return whether a value may be a member's name, or several separated by commas."""
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_NAME


def is_count(value: object) -> bool:
    """Return whether a value is an unsigned 64-bit integer."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


def is_system(value: str) -> bool:
    """Return whether a value of ``/initialize`` may be a system identifier, or is empty."""
    return _IDENTIFIER.fullmatch(value) is not None


def lsn_text(lsn: int) -> str:
    """Format a WAL position as PostgreSQL does."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def _object(value: Text, **forms: Check) -> Fields | Unreadable:
    """Read an object in which each of these fields has its form, is null or is missing."""
    found = json_object(value)
    if found is None:
        return Unreadable("not a JSON object")
    for name, form in forms.items():
        if found.get(name) is not None and not form(found[name]):
            return Unreadable(f"{name} is not what Patroni writes there")
    return found


def _settings(member: Fields) -> frozenset[str]:
    """Return a member's settings: the pause is a field, the others are tags."""
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
