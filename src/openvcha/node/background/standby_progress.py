"""Whether this node's standby is stuck: a decision on repeated observations."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from openvcha.node.process.process_tree import Process, is_postgres, program
from openvcha.store import keys
from openvcha.store.interface import KeyValue
from openvcha.store.patroni.state import (
    MemberState,
    Unreadable,
    paused,
    read_leader,
    read_member,
    read_sync,
)
from openvcha.system.proc import open_files

# After a base backup that did not help: another one is unlikely to help, and takes space again.
RETRY_BASE_BACKUP_SECONDS = 900.0
WORKING_SECONDS = 900.0
STARTUP = "startup"
"""In the title of the process that replays WAL."""
WAL_SEGMENT = re.compile(r"/[0-9A-F]{24}$")


@dataclass(frozen=True)
class StandbyObservation:
    """One observation. ``source`` is the other node that runs as primary; None if there is none.

    ``places`` describes PostgreSQL's progress, as strings that change only with it. ``workers`` are
    the pids of processes that may take long: a rewind, a recovery.
    """

    source: str | None
    well: bool
    in_sync: bool
    paused: bool
    places: frozenset[str]
    workers: frozenset[int]


def observe_standby(
    own: str,
    found: Iterable[KeyValue],
    processes: Iterable[Process],
    files: Callable[[int], Iterable[str]] = open_files,
) -> StandbyObservation:
    """Return an observation from Patroni's keys, the node's processes, and what they have open."""
    values = {kv.key: kv.value for kv in found}
    leader = read_leader(values.get(keys.PATRONI_LEADER, b"")) or None
    sync = read_sync(values.get(keys.PATRONI_SYNC))
    # Unreadable counts as unknown: then no standby is confirmed.
    named = frozenset[str]() if isinstance(sync, Unreadable) else sync.standbys
    confirmed = not isinstance(sync, Unreadable) and leader is not None and sync.leader == leader
    me = _member(values, own)
    source = leader if leader and confirmed and leader != own else None
    return StandbyObservation(
        source=source if source and _member(values, source).primary else None,
        well=leader == own or me.streams,
        in_sync=confirmed and bool(named) and (leader == own or (own in named and me.streams)),
        paused=paused(values.get(keys.PATRONI_CONFIG)) is True,
        places=_places(me, processes := tuple(processes), files),
        workers=frozenset(_workers(me, processes)),
    )


class StandbyWatch:
    """The past observations, which distinguish a slow standby from a stuck one."""

    def __init__(self, now: float) -> None:
        self._seen: set[str] = set()
        self._workers: frozenset[int] = frozenset()
        self._source: str | None = None
        self._advanced = self._stirred = now

    def quiet_seconds(self, observation: StandbyObservation, now: float) -> float:
        """Return for how many seconds there was no progress despite a primary to follow."""
        lasting, self._workers = observation.workers & self._workers, observation.workers
        if (
            observation.well
            or observation.paused
            or observation.source is None
            or observation.source != self._source
        ):
            self._source = observation.source
            self._seen = set(observation.places)
            self._advanced = self._stirred = now
        elif observation.places - self._seen:
            self._seen |= observation.places
            self._advanced = self._stirred = now
        elif lasting and now - self._advanced < WORKING_SECONDS:
            self._stirred = now
        return now - self._stirred


def _member(values: dict[str, bytes], name: str) -> MemberState:
    found = read_member(values.get(keys.patroni_member(name)))
    return MemberState() if isinstance(found, Unreadable) else found


def _places(
    me: MemberState, processes: Iterable[Process], files: Callable[[int], Iterable[str]]
) -> frozenset[str]:
    places = {
        "timeline": me.timeline,
        "receive_lsn": me.receive_lsn,
        "replay_lsn": me.replay_lsn,
    }
    told = (f"{name} {place}" for name, place in places.items() if place is not None)
    # With update_process_title off, its title never changes; but it has its segment open.
    replaying = [process for process in processes if _is_startup(process)]
    titles = (process.argv[0] for process in replaying if "recovering" in process.argv[0])
    read = (file for one in replaying for file in files(one.pid) if WAL_SEGMENT.search(file))
    return frozenset((*told, *titles, *read))


def _is_startup(process: Process) -> bool:
    return bool(process.argv) and STARTUP in process.argv[0]


def _workers(me: MemberState, processes: Iterable[Process]) -> Iterable[int]:
    starting = me.state != "running"
    for process in processes:
        argv = process.argv
        if not is_postgres(argv):
            continue
        is_tool = "--single" in argv or program(argv) != "postgres"
        if is_tool or (starting and _is_startup(process)):
            yield process.pid
