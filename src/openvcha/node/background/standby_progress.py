"""Whether this node's standby is stuck: a pure decision on repeated observations."""

from collections.abc import Iterable
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

# After a base backup that did not help: another one is unlikely to help, and takes space again.
RETRY_BASE_BACKUP_SECONDS = 900.0
WORKING_SECONDS = 900.0


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
    own: str, found: Iterable[KeyValue], processes: Iterable[Process]
) -> StandbyObservation:
    """Return an observation from Patroni's keys and the node's processes."""
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
        places=_places(me, processes := tuple(processes)),
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


def _places(me: MemberState, processes: Iterable[Process]) -> frozenset[str]:
    places = {
        "timeline": me.timeline,
        "receive_lsn": me.receive_lsn,
        "replay_lsn": me.replay_lsn,
    }
    told = (f"{name} {place}" for name, place in places.items() if place is not None)
    titles = (process.argv[0] for process in processes if process.argv)
    return frozenset((*told, *(title for title in titles if "startup recovering" in title)))


def _workers(me: MemberState, processes: Iterable[Process]) -> Iterable[int]:
    starting = me.state != "running"
    for process in processes:
        argv = process.argv
        if not is_postgres(argv):
            continue
        is_tool = "--single" in argv or program(argv) != "postgres"
        if is_tool or (starting and "startup" in argv[0]):
            yield process.pid
