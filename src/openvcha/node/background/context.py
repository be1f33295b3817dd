"""The context of a background job: its node, its store, and how it acts on its node."""

import asyncio
import dataclasses
import signal
from collections.abc import Awaitable, Callable, Collection, Sequence

from openvcha.node.background.cluster_records import ClusterRecords, ObservedMembers
from openvcha.node.engines import Engines
from openvcha.node.etcd.endpoints import ProvenNames
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.process.logs import Logger
from openvcha.node.process.managed_process import Part
from openvcha.node.process.status import OwnView, PartStatus
from openvcha.node.process.supervised_loop import HealthReporter
from openvcha.store import keys
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import Member
from openvcha.store.sealing.cluster_store import SealedEtcd

RETRY_SECONDS = 1.0
"""The first pause before a failed job is retried."""


@dataclasses.dataclass(frozen=True)
class LastObservation:
    """The result of the last observation of the cluster, for a job that is restarted.

    ``voters`` and ``paused`` are as last read from the store. ``silent_since``, in the event loop's
    time, is None if the store responded.
    """

    view: OwnView
    voters: int
    paused: bool | None
    silent_since: float | None


class Control:
    """The controls that jobs have over the node. ``ready`` is set when it has data and parts run.

    ``base_backup`` takes one of the leader and returns whether it succeeded. ``tell`` sets a job's
    note in the node's status; None removes it. ``show`` sets the node's view of the cluster there.
    ``passwords`` is locked while the passwords of the cluster's roles change. ``records`` are from
    the last observation that had a result, ``proven`` the names that the members' addresses proved;
    ``last_observation`` is the last one. ``votes_changed`` is set when the record of the required
    votes has changed between two observations.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        base_backup: Callable[[], Awaitable[bool]],
        tell: Callable[[str, str | None], None],
        show: Callable[[OwnView], None],
    ) -> None:
        self._parts = {part.spec.name: part for part in parts}
        self.base_backup = base_backup
        self.tell = tell
        self.show = show
        self.ready = asyncio.Event()
        self.passwords = asyncio.Lock()
        self.records: ClusterRecords | None = None
        self.votes_changed = asyncio.Event()
        self.proven = ProvenNames()
        self.last_observation: LastObservation | None = None

    @property
    def members(self) -> ObservedMembers | None:
        """Return the last list of the store's members."""
        return self.records.listed if self.records else None

    def note_records(self, records: ClusterRecords) -> None:
        """Keep what was just read."""
        before, self.records = self.records, records
        known = before.revision_of(keys.REQUIRED_VOTES) if before else 0
        if records.revision_of(keys.REQUIRED_VOTES) != known:
            self.votes_changed.set()

    async def halt(self, name: str) -> None:
        """Stop a part until ``begin``, or a group; return when each program has exited."""
        parts = [part for part in self._parts.values() if name in {part.spec.name, part.group}]
        await asyncio.gather(*(part.halt() for part in parts))

    def begin(self, name: str) -> None:
        """Start a part that was halted."""
        self._parts[name].begin()

    def status(self, name: str) -> PartStatus:
        """Return the status of a part."""
        return self._parts[name].status

    def reload(self, name: str) -> None:
        """Make a part reload its files."""
        self._parts[name].signal(signal.SIGHUP)


def report_health(control: Control) -> HealthReporter:
    """Return what notes in the node's status that a job fails, until it runs well again."""

    def report(name: str, reason: str | None) -> None:
        text = f"was interrupted and is being retried: {reason}"
        control.tell(f"job {name}", None if reason is None else text)

    return report


@dataclasses.dataclass(frozen=True)
class NodeContext:
    """The context of a background job: its node, and the cluster's store."""

    identity: Identity
    layout: Layout
    engines: Engines
    store: Etcd | SealedEtcd
    events: Logger
    control: Control


def is_listed(context: NodeContext, members: Collection[Member]) -> bool:
    """Return whether a list of the store's members has this node, as its address proves."""
    identity = context.identity
    own = {identity.member: identity.ha_address}
    return identity.member in context.control.proven.update(members, own).values()
