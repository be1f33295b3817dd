"""A node that observes a simulated cluster."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
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
        self.announced = asyncio.Event()
        self.reads = self.lists = 0
        self.task, self.required_votes = False, 0
        """Whether a task holds the operation; the revision of the required votes, 0 for none."""
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
            note_records=lambda _: None,
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
        """Read both, as the store's client does with one quorum read."""
        return await self.get_many(names), await self.members()

    async def get_many(self, names: Sequence[str]) -> list[Any]:
        """Count the read; return the values. Raises the prepared fault."""
        self.reads += 1
        if self.fault:
            fault, self.fault = self.fault, None
            raise fault
        if self.hangs or not self.reachable:
            raise StoreUnavailable("no quorum")
        if keys.PATRONI_CONFIG in names and self.view.identity.kind == "witness":
            raise StoreError("permission denied")
        return [self.value(key) for key in names]

    async def get(self, key: str) -> Any:
        """Return the value of one key. Raises the prepared fault."""
        if self.record_fault:
            raise self.record_fault
        return self.value(key)

    def value(self, key: str) -> Any:
        """Return the value of one key as it is now."""
        known = {
            keys.PATRONI_CONFIG: b'{"pause": true}' if self.paused else b"{}",
            keys.PATRONI_SYNC: self.sync,
            keys.PATRONI_FAILOVER: self.failover,
            keys.PATRONI_LEADER: (self.leader or "").encode(),
            keys.OPERATION: b"task" if self.task else b"",
            keys.REQUIRED_VOTES: b"{}" if self.required_votes else b"",
        }
        if self.forged:
            known[keys.PATRONI_CONFIG] = b""
        value = b"{}" if key.startswith(keys.PATRONI_MEMBERS) else known.get(key, b"{}")
        revision = self.required_votes if key == keys.REQUIRED_VOTES else self.told
        return SimpleNamespace(key=key, value=value, mod_revision=revision) if value else None

    async def watch(self, _: str) -> AsyncGenerator[list[Any], None]:
        """Yield once for each change of ``/sync`` that is announced."""
        while True:
            await self.announced.wait()
            self.announced.clear()
            yield []

    async def members_without_space(self) -> frozenset[int]:
        """Return no members: none is full."""
        return frozenset()

    async def status(self, _: str) -> EndpointStatus:
        """Return the status of the only endpoint."""
        return EndpointStatus(1, 1, "3.4", 0, 1, 1, cluster_id=0xC1, revision=7)

    async def members(self) -> Any:
        """Count the list; return the members of the store."""
        self.lists += 1
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
