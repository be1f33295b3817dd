"""What a duty works with, and what it may do to its node: end a part, make a copy, say a word."""

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
class MembersSeen:
    """The members of the store as a majority named them to a look that began at ``began``."""

    began: float
    names: frozenset[str]


class Control:
    """``ready`` is set when the parts have begun and the data are there.

    ``copy`` makes a copy of the leader's data and tells whether it is there. ``tell`` keeps a
    duty's sentence in the node's status; None takes it out. ``show`` keeps how the node sees the
    cluster there. ``passwords`` is held by whoever changes those of the cluster's roles.
    ``members`` are those of the last look that found some.
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
        self.members: MembersSeen | None = None

    async def halt(self, name: str) -> None:
        """End a part until it is begun again; returns when its program is gone."""
        await self._parts[name].halt()

    def begin(self, name: str) -> None:
        """Begin a part that was halted."""
        self._parts[name].begin()

    def status(self, name: str) -> PartStatus:
        """Return where a part stands."""
        return self._parts[name].status

    def reload(self, name: str) -> None:
        """Have a part read its files again."""
        self._parts[name].signal(signal.SIGHUP)


@dataclasses.dataclass(frozen=True)
class DutyView:
    """What a duty works with: its node, and the cluster's store as the node reaches it."""

    identity: Identity
    layout: Layout
    engines: Engines
    store: Etcd | SealedEtcd
    events: Logger
    control: Control
