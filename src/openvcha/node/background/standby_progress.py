"""Whether this node's standby is stuck: a pure decision on repeated observations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from openvcha.node.process.process_tree import Process, is_postgres, program
from openvcha.store import keys
from openvcha.store.bounded_json import json_object
from openvcha.store.interface import KeyValue

STUCK_SECONDS = 30.0
# After a copy that did not help: another one is unlikely to, and takes space again.
AGAIN_SECONDS = 900.0
WORK_SECONDS = 900.0


@dataclass(frozen=True)
class Look:
    """One observation. ``source`` is the other node that runs as primary; None if there is none.

    ``places`` describes how far PostgreSQL is, in strings that change only with progress.
    ``workers`` are pids of processes that may take long: a rewind, a recovery.
    """

    source: str | None
    well: bool
    in_sync: bool
    paused: bool
    places: frozenset[str]
    workers: frozenset[int]


def look_at(own: str, found: Iterable[KeyValue], processes: Iterable[Process]) -> Look:
    """Return an observation from Patroni's keys and the node's processes."""
    values = {kv.key: kv.value for kv in found}
    leader = values.get(keys.PATRONI_LEADER, b"").decode(errors="replace") or None
    sync = _fields(values.get(keys.PATRONI_SYNC))
    named = _names(sync)
    confirmed = leader is not None and sync.get("leader") == leader
    me = _fields(values.get(keys.patroni_member(own)))
    streams = me.get("replication_state") == "streaming"
    return Look(
        source=leader if confirmed and leader != own and _primary(values, leader) else None,
        well=leader == own or streams,
        in_sync=confirmed and bool(named) and (leader == own or (own in named and streams)),
        paused=bool(_fields(values.get(keys.PATRONI_CONFIG)).get("pause")),
        places=_places(me, processes := tuple(processes)),
        workers=frozenset(_workers(me, processes)),
    )


class Watch:
    """Remembers observations, to distinguish a slow standby from a stuck one."""

    def __init__(self, now: float) -> None:
        self._seen: set[str] = set()
        self._workers: frozenset[int] = frozenset()
        self._source: str | None = None
        self._advanced = self._stirred = now

    def quiet_seconds(self, look: Look, now: float) -> float:
        """Return for how many seconds there was no progress despite a primary to follow."""
        lasting, self._workers = look.workers & self._workers, look.workers
        if look.well or look.paused or look.source is None or look.source != self._source:
            self._source = look.source
            self._seen = set(look.places)
            self._advanced = self._stirred = now
        elif look.places - self._seen:
            self._seen |= look.places
            self._advanced = self._stirred = now
        elif lasting and now - self._advanced < WORK_SECONDS:
            self._stirred = now
        return now - self._stirred


def standbys(sync: KeyValue | None) -> frozenset[str]:
    """Return the members that ``/sync`` names: they have every acknowledged row."""
    return _names(_fields(sync.value if sync else None))


def _names(sync: Mapping[str, Any]) -> frozenset[str]:
    named = sync.get("sync_standby")
    return frozenset(named.split(",") if isinstance(named, str) else ()) - {""}


def _primary(values: Mapping[str, bytes], leader: str | None) -> bool:
    fields = _fields(values.get(keys.patroni_member(leader or "")))
    return fields.get("role") in {"primary", "master"} and fields.get("state") == "running"


def _places(me: Mapping[str, Any], processes: Iterable[Process]) -> frozenset[str]:
    told = (
        f"{name} {me[name]}" for name in ("timeline", "receive_lsn", "replay_lsn") if name in me
    )
    titles = (process.argv[0] for process in processes if process.argv)
    return frozenset((*told, *(title for title in titles if "startup recovering" in title)))


def _workers(me: Mapping[str, Any], processes: Iterable[Process]) -> Iterable[int]:
    starting = me.get("state") != "running"
    for process in processes:
        argv = process.argv
        if not is_postgres(argv):
            continue
        is_tool = "--single" in argv or program(argv) != "postgres"
        if is_tool or (starting and "startup" in argv[0]):
            yield process.pid


def _fields(value: bytes | None) -> dict[str, Any]:
    """Read a JSON object; return an empty one if it is invalid, so that it confirms nothing."""
    return json_object(value or b"") or {}
