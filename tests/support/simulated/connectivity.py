"""A node that observes a simulated cluster."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.node_files import identity

from openvcha.node.background import connectivity
from openvcha.node.etcd import member
from openvcha.node.layout import Layout
from openvcha.node.process.status import OwnView, PartState, PartStatus
from openvcha.store import keys
from openvcha.store.errors import StoreError, StoreUnavailable
from openvcha.store.interface import EndpointStatus, Member

NOWHERE = Path("/nonexistent")


NAMES = ("own", "second", "third")


class ObservedCluster:
    """A cluster of three as ``own`` sees it."""

    def __init__(
        self, patch: pytest.MonkeyPatch, kind: Any = "data", directory: Path = NOWHERE
    ) -> None:
        self.leader: str | None = "own"
        self.reachable, self.hangs = True, False
        self.voters = len(NAMES)
        self.paused, self.sync, self.failover = False, b"", b""
        self.forged = False
        self.reads = 0
        self.silent: set[str] = set()
        self.remark = b""
        """What each member of the store says beside its health."""
        self.patroni = b'{"role": "primary", "state": "running"}'
        self.told, self.asked = 1, 0
        """The revision at which Patroni has written what it is; how often it was asked."""
        own = identity(kind=kind, ha_address="127.1.1.0")
        patch.setattr(connectivity, "ask", self.ask)
        patch.setattr(member, "ask", self.ask)
        patch.setattr(connectivity, "NodeTls", lambda _: lambda: None)
        self.endpoints = ("https://127.1.1.0:2379",)
        self.fault: Exception | None = None
        """What the next read of the store raises, once."""
        self.record_fault: Exception | None = None
        """What each read of the cluster's record raises."""
        self.notes: dict[str, str | None] = {}
        self.shown: list[OwnView] = []
        events = SimpleNamespace(**dict.fromkeys(("info", "warning", "error"), _logged))
        control = SimpleNamespace(
            show=self.shown.append,
            status=lambda _: PartStatus(name="etcd", state=PartState.RUNNING),
            tell=self.notes.__setitem__,
            last_observation=None,
        )
        self.view: Any
        self.view = SimpleNamespace(
            identity=own, layout=Layout(directory), store=self, events=events, control=control
        )
        self.observer = connectivity.ConnectivityObserver(self.view)

    async def ask(self, endpoint: str, path: str, *_: Any) -> bytes | None:
        """Return the page of Patroni or of an etcd member; None if it is silent."""
        if path == "/patroni":
            self.asked += 1
            return self.patroni
        number = int(endpoint.partition("127.1.1.")[2].partition(":")[0])
        health = b"true" if self.reachable else b"false"
        answer = b'{"health":"%s","reason":"%s"}' % (health, self.remark)
        return None if NAMES[number] in self.silent else answer

    async def get_many_and_members(self, names: Sequence[str]) -> tuple[list[Any], Any]:
        """Count the read; return the values and the members. Raises the prepared fault."""
        self.reads += 1
        if self.fault:
            fault, self.fault = self.fault, None
            raise fault
        if self.hangs or not self.reachable:
            raise StoreUnavailable("no quorum")
        if keys.PATRONI_CONFIG in names and self.view.identity.kind == "witness":
            raise StoreError("permission denied")
        return [self.value(key) for key in names], await self.members()

    async def get(self, key: str) -> Any:
        """Return the value of one key. Raises the prepared fault."""
        if self.record_fault:
            raise self.record_fault
        return self.value(key)

    def value(self, key: str) -> Any:
        """Return the value of one key as it is now."""
        if key == keys.patroni_member("own"):
            return SimpleNamespace(key=key, value=b"{}", mod_revision=self.told)
        if key == keys.PATRONI_CONFIG and self.forged:
            return None
        if key == keys.PATRONI_CONFIG:
            return SimpleNamespace(key=key, value=b'{"pause": true}' if self.paused else b"{}")
        if key == keys.PATRONI_SYNC:
            return SimpleNamespace(key=key, value=self.sync) if self.sync else None
        if key == keys.PATRONI_FAILOVER:
            return SimpleNamespace(key=key, value=self.failover) if self.failover else None
        return SimpleNamespace(key=key, value=self.leader.encode()) if self.leader else None

    async def members_without_space(self) -> frozenset[int]:
        """Return no members: none is full."""
        return frozenset()

    async def status(self, _: str) -> EndpointStatus:
        """Return the status of the only endpoint."""
        return EndpointStatus(1, 1, "3.4", 0, 1, 1, cluster_id=0xC1, revision=7)

    async def members(self) -> Any:
        """Return the members of the store."""
        return [
            Member(
                at,
                name,
                (f"https://127.1.1.{at}:2380",),
                (f"https://127.1.1.{at}:2379",),
                learner=at >= self.voters,
            )
            for at, name in enumerate(NAMES)
        ]


def _logged(*_: Any, **__: Any) -> None:
    """Log nothing."""
