"""Observation of the cluster from this node, for when no other source is available."""

import asyncio
import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

import msgspec

from openvcha.node.background.cluster_records import (
    ClusterReader,
    ClusterRecords,
    announce_changes,
)
from openvcha.node.background.context import (
    RETRY_SECONDS,
    LastObservation,
    NodeContext,
    report_health,
)
from openvcha.node.background.isolation import ISOLATED_SECONDS, IsolationGuard, QuorumState
from openvcha.node.background.membership_cache import MembershipCache
from openvcha.node.etcd.member import client_url, health_of, known_members
from openvcha.node.etcd.own_member import OwnMember
from openvcha.node.http import ask
from openvcha.node.identity import Identity
from openvcha.node.local_records.cluster import MajorityView, in_sync
from openvcha.node.process.backoff import Backoff
from openvcha.node.process.status import Contact, LocalRole, OwnView
from openvcha.node.process.supervised_loop import run_forever
from openvcha.node.security.tls import NodeTls
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.etcd.member_pages import MemberHealth
from openvcha.store.http.tls_sessions import TlsSessions
from openvcha.store.interface import KeyValue, Member
from openvcha.store.patroni.rest import PatroniNode, read_node
from openvcha.store.patroni.state import (
    Unreadable,
    paused,
    read_config,
    read_failover,
    read_sync,
)
from openvcha.system.network.host_port import url

POLL_SECONDS = 1.0
CALM_SECONDS = 2.0
"""While commits wait for a standby and no task runs: then a node that is cut off has time. That the
standby is no longer in sync is announced by a watch: the node must know it if all others are lost.
"""
SILENT_SECONDS = 0.5
SHORTEST_SECONDS = 0.1
"""However often a member of the store announces changes."""
ASK_SECONDS = 2.0
PROBE_SECONDS = 2.0
PATRONI_SECONDS = 5.0
"""Time after which to ask Patroni again; earlier if it has written something else to the store, but
at most once per observation: its response costs as much as the rest of it."""
# If the node's own member of the store does not respond either: it may be restarting.
UNSURE_SECONDS = 10.0
CACHE_JOB, SYNC_JOB = "kept cluster", "watch of the standbys"
RECORD_READERS: Mapping[str, Callable[[bytes], object]] = {
    keys.PATRONI_SYNC: read_sync,
    keys.PATRONI_FAILOVER: read_failover,
    keys.PATRONI_CONFIG: read_config,
}
"""The records without which a data node may keep its PostgreSQL down."""


async def observe_connectivity(context: NodeContext) -> None:
    """Observe until canceled; act on each observation before publishing it."""
    control, events = context.control, context.events
    observer, cache = ConnectivityObserver(context), MembershipCache(context)
    guard = IsolationGuard(context.layout, events)
    own_store, clock = OwnMember(control.status("etcd")), asyncio.get_running_loop().time
    report, changed = report_health(control), asyncio.Event()
    watch = partial(announce_changes, context.store, keys.PATRONI_SYNC, changed)
    async with asyncio.TaskGroup() as beside:
        for name, work in ((CACHE_JOB, cache.run), (SYNC_JOB, watch)):
            report(name, None)
            # Restarted by itself: its failure must not interrupt the guard.
            backoff = Backoff(first=RETRY_SECONDS)
            keeping = run_forever(name, work, events, report_health=report, backoff=backoff)
            beside.create_task(keeping, name=name)
        while True:
            changed.clear()
            seen = await observer.observe()
            control.last_observation = observer.last_observation(seen)
            if await guard.enforce(observer.standing()):
                seen = msgspec.structs.replace(seen, writable=False)
            control.tell("isolation", guard.failure)
            control.tell("records", observer.unreadable)
            control.show(seen)
            part = control.status("etcd")
            control.tell("store", own_store.note(part, seen.contact, clock()))
            if observer.known and observer.records:
                control.note_records(observer.records)
                cache.note(observer.known)
            await asyncio.sleep(SHORTEST_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(observer.pause - SHORTEST_SECONDS):
                    await changed.wait()


Trace = tuple[str | None, int]
"""Who leads, and the revision at which this node's Patroni last wrote its member key."""


class ConnectivityObserver:
    """An observer of the cluster on one node, which keeps the last observation.

    It continues from the last observation of a former observer: the store cannot be read while the
    node is cut off.
    """

    def __init__(
        self, context: NodeContext, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    ) -> None:
        self._context = context
        self._now = now
        self._clock = asyncio.get_running_loop().time
        self._tls = NodeTls(context.layout)
        self._sessions = TlsSessions()
        identity = context.identity
        self._reader = ClusterReader(identity, context.store)
        self.records: ClusterRecords | None = None
        """The result of the last observation; None if there was no quorum."""
        last = context.control.last_observation or _no_observation(identity, now())
        self._role, self._in_sync = last.view.role, last.view.in_sync
        # As last read from the store: other nodes act on that; a hung Patroni does not notice it.
        self._paused = last.paused
        self._contact = last.view.contact
        self._since = dt.datetime.fromisoformat(last.view.since)
        # If the store responded before the job was restarted, it may have done so ever since.
        self._last_contact = self._clock() if last.silent_since is None else last.silent_since
        self.silent = False
        self._patroni: PatroniNode | None = None
        self._primary: bool | None = None
        """Whether PostgreSQL accepted writes when Patroni last replied."""
        self._patroni_asked = -math.inf
        # What the store shows of this node's Patroni: now, and when Patroni was last asked.
        self._trace: Trace | None = None
        self._asked_trace: Trace | None = None
        self._voters = last.voters
        self._members = known_members(identity, context.layout)
        self._store: tuple[tuple[Member, ...], str | None, frozenset[str] | None] | None = None
        self._health: dict[str, MemberHealth | None] = {}
        self.unreadable: str | None = None
        """Which records cannot be read, and what to do; None if there are none."""

    async def observe(self) -> OwnView:
        """Ask the store; while it does not respond, also ask each of its members."""
        began = self._clock()
        due = self._patroni_is_due(began)
        heard, _, self._health = await asyncio.gather(
            self._ask_store(began),
            self._update_patroni(began if due else None),
            self._ask_members(),
        )
        if heard and not due and self._trace != self._asked_trace:
            await self._update_patroni(began)
        self.silent = not heard and self._own_health() is not MemberHealth.HEALTHY
        if not self.silent:
            self._last_contact = began
        if heard:
            self._set(Contact.CONNECTED)
        elif self._contact is not Contact.STARTING and self._is_isolated():
            self._set(Contact.ISOLATED)
        return self._seen()

    @property
    def known(self) -> MajorityView | None:
        """Return the result of the last observation; None if there was no quorum."""
        if self._store is None:
            return None
        own = self._patroni
        return MajorityView(
            *self._store,
            paused=self._paused,
            timeline=own.timeline if own else None,
            lsn=own.lsn if own else None,
            primary=self._primary,
        )

    @property
    def pause(self) -> float:
        """Return the seconds until the next observation."""
        if self.silent:
            return SILENT_SECONDS
        known = self.known
        settled = known is not None and bool(known.leader and known.standbys) and not known.paused
        busy = self.records is None or self.records.suggest_change
        return CALM_SECONDS if settled and not busy else POLL_SECONDS

    def standing(self) -> QuorumState:
        """Return the state of the quorum after the last observation."""
        return QuorumState(
            voters=self._voters,
            paused=self._paused,
            lacks_quorum=self._lacks_quorum(),
            silent_seconds=self._silent_seconds(),
        )

    def last_observation(self, seen: OwnView) -> LastObservation:
        """Return what the next observer needs to continue from ``seen``."""
        silent_since = self._last_contact if self.silent else None
        return LastObservation(seen, self._voters, self._paused, silent_since)

    def _is_isolated(self) -> bool:
        grace = ISOLATED_SECONDS if self._lacks_quorum() else UNSURE_SECONDS
        return self._silent_seconds() >= grace

    def _lacks_quorum(self) -> bool:
        return self._own_health() is MemberHealth.UNHEALTHY

    def _silent_seconds(self) -> float:
        return self._clock() - self._last_contact if self.silent else 0.0

    def _set(self, contact: Contact) -> None:
        if contact is not self._contact:
            self._contact, self._since = contact, self._now()

    def _seen(self) -> OwnView:
        return OwnView(
            role=self._role,
            contact=self._contact,
            since=self._since.isoformat(timespec="seconds"),
            writable=self._patroni.primary if self._patroni else None,
            waits_for=self._unreachable_members() if self.silent else (),
            in_sync=self._in_sync,
        )

    async def _ask_store(self, now: float) -> bool:
        self._store = self.records = None
        try:
            async with asyncio.timeout(ASK_SECONDS):
                found = await self._reader.read(now)
        except (StoreError, TimeoutError):
            return False
        self.records, members, leads = found, found.listed.members, found.leader
        own = self._context.identity.member
        sync, config = map(found.values.get, (keys.PATRONI_SYNC, keys.PATRONI_CONFIG))
        self._members = {m.name: m.client_urls[0] for m in members if m.name and m.client_urls}
        self._voters = sum(not member.learner for member in members)
        # Patroni, too, keeps using the last configuration that it could read.
        asked = paused(config.value if config else None)
        self._paused = self._paused if asked is None else asked
        state = read_sync(sync.value if sync else None)
        named = None if isinstance(state, Unreadable) else state.standbys
        self._trace = leads, found.revision_of(keys.patroni_member(own))
        self._store = (members, leads, named)
        if self._context.identity.holds_data:
            self.unreadable = _unreadable(found.values.values())
            self._role = _role(leads, own)
            self._in_sync = in_sync(own, leads, named)
        return own in self._members

    async def _ask_members(self) -> dict[str, MemberHealth | None]:
        """Ask each member of the store for its health, once the store has stopped responding."""
        if not self.silent:
            return {}
        places = set(self._members.values()) | {client_url(self._context.identity)}
        said = await asyncio.gather(*(health_of(at, self._tls(), PROBE_SECONDS) for at in places))
        return dict(zip(places, said, strict=True))

    def _own_health(self) -> MemberHealth | None:
        return self._health.get(client_url(self._context.identity))

    def _unreachable_members(self) -> tuple[str, ...]:
        """Return the names of the other members that do not respond."""
        own = client_url(self._context.identity)
        return tuple(
            name
            for name, at in self._members.items()
            if at != own and self._health and not self._health.get(at)
        )

    def _patroni_is_due(self, now: float) -> bool:
        """Return whether to ask Patroni whatever the store shows, as while either is silent."""
        silent = self.silent or self._patroni is None
        return silent or now - self._patroni_asked >= PATRONI_SECONDS

    async def _update_patroni(self, now: float | None) -> None:
        """Ask Patroni, noting the time; None keeps its last reply."""
        if now is not None:
            trace = self._trace
            self._patroni = await self._ask_patroni()
            self._primary = self._patroni.primary if self._patroni else self._primary
            self._patroni_asked, self._asked_trace = now, trace

    async def _ask_patroni(self) -> PatroniNode | None:
        """Return what this node's Patroni reports of PostgreSQL; None on a witness."""
        identity = self._context.identity
        if not identity.holds_data:
            return None
        place = url(identity.ha_address, identity.ports.patroni)
        said = await ask(place, "/patroni", self._tls(), PROBE_SECONDS, self._sessions)
        return read_node(said or b"")


def _unreadable(records: Iterable[KeyValue]) -> str | None:
    """Return which of these records cannot be read, and what to do; None if there are none."""
    found = [
        (record.key, state.reason)
        for record in records
        if record.key in RECORD_READERS
        and isinstance(state := RECORD_READERS[record.key](record.value), Unreadable)
    ]
    if not found:
        return None
    names = ", ".join(f"{key} ({reason})" for key, reason in found)
    return (
        f"These records cannot be read: {names}. `vcha node store set-aside DIRECTORY"
        f" {found[0][0]}` moves it out of the way; see docs/recovery.md (A record in the store"
        " cannot be read)"
    )


def _role(leader: str | None, own: str) -> LocalRole:
    if not leader:
        return LocalRole.UNKNOWN
    return LocalRole.ACTIVE if leader == own else LocalRole.PASSIVE


def _no_observation(identity: Identity, now: dt.datetime) -> LastObservation:
    """Return what a node knows before its first observation."""
    role = LocalRole.UNKNOWN if identity.holds_data else LocalRole.WITNESS
    view = OwnView(role=role, contact=Contact.STARTING, since=now.isoformat())
    return LastObservation(view, voters=0, paused=None, silent_since=None)
