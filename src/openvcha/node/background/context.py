"""The context of a background job: its node, its store, and how it acts on its node."""

import asyncio
import dataclasses
import signal
from collections.abc import Awaitable, Callable, Sequence

from openvcha.node.engines import Engines
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.process.logs import Logger
from openvcha.node.process.managed_process import Part
from openvcha.node.process.status import OwnView, PartStatus
from openvcha.store.etcd.client import Etcd
from openvcha.store.sealing.cluster_store import SealedEtcd


@dataclasses.dataclass(frozen=True)
class ObservedMembers:
    """The members of the store, confirmed by a quorum in a look that began at ``began``."""

    began: float
    names: frozenset[str]


class Control:
    """The controls that jobs have over the node. ``ready`` is set when it has data and parts run.

    ``copy`` copies the leader's data and returns whether it succeeded. ``tell`` sets a job's note
    in the node's status; None removes it. ``show`` sets the node's view of the cluster there.
    ``passwords`` is locked while the passwords of the cluster's roles change. ``members`` are from
    the last look that had a result.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        copy: Callable[[], Awaitable[bool]],
        tell: Callable[[str, str | None], None],
        show: Callable[[OwnView], None],
    ) -> None:
        self._parts = {part.spec.name: part for part in parts}
        self.copy = copy
        self.tell = tell
        self.show = show
        self.ready = asyncio.Event()
        self.passwords = asyncio.Lock()
        self.members: ObservedMembers | None = None

    async def halt(self, name: str) -> None:
        """Stop a part until ``begin``; return when its program has exited."""
        await self._parts[name].halt()

    def begin(self, name: str) -> None:
        """Start a part that was halted."""
        self._parts[name].begin()

    def status(self, name: str) -> PartStatus:
        """Return the status of a part."""
        return self._parts[name].status

    def reload(self, name: str) -> None:
        """Make a part reload its files."""
        self._parts[name].signal(signal.SIGHUP)


@dataclasses.dataclass(frozen=True)
class NodeContext:
    """The context of a background job: its node, and the cluster's store."""

    identity: Identity
    layout: Layout
    engines: Engines
    store: Etcd | SealedEtcd
    events: Logger
    control: Control
