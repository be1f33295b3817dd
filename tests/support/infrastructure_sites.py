"""Sites: each an infrastructure of one kind, with what can go wrong in it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest
from tests.support.simulated.infrastructure import SimulatedInfrastructure, SimulatedMachines

from openvcha.api.structures import HostConnectionState
from openvcha.infrastructure.interface import Infrastructure, NodeRequest, Placement
from openvcha.infrastructure.local import infrastructure as local
from openvcha.infrastructure.local.infrastructure import LocalInfrastructure

NETWORKS = {"ha_network": "network-15", "management_network": "network-12"}


class Site(Protocol):
    """One infrastructure, seen by two processes, whose hosts can be lost."""

    infrastructure: Infrastructure
    other: Infrastructure
    """The same infrastructure in another process."""

    async def request(self, name: str = "vcha-new") -> NodeRequest:
        """Return a request for a node; its token is its name."""
        ...

    async def lose_host(self, host: str) -> None:
        """Let a host not respond any more, while its VMs go on as they are."""
        ...

    async def return_host(self, host: str) -> None:
        """Let a lost host respond again."""
        ...

    def broken_creations(self) -> AbstractContextManager[None]:
        """Let creations end half made during a ``with`` block, with or without an error."""
        ...


def _request(name: str) -> NodeRequest:
    place = Placement(
        name=name,
        folder="group-v3",
        host="host-12",
        resource_pool="resgroup-9",
        datastore="datastore-14",
        **NETWORKS,
    )
    return NodeRequest(placement=place, token=name, addresses=("127.83.2.12",))


class LocalSite:
    """The local infrastructure; a lost host is one that its inventory calls DISCONNECTED."""

    def __init__(self, infrastructure: LocalInfrastructure, other: LocalInfrastructure) -> None:
        self.infrastructure: Infrastructure = infrastructure
        self.other: Infrastructure = other
        self._local = infrastructure

    async def request(self, name: str = "vcha-new") -> NodeRequest:
        """Return a request for a node."""
        return _request(name)

    async def lose_host(self, host: str) -> None:
        """Disconnect a host."""
        await self._local.set_host(host, connection_state=HostConnectionState.DISCONNECTED)

    async def return_host(self, host: str) -> None:
        """Connect a host."""
        await self._local.set_host(host, connection_state=HostConnectionState.CONNECTED)

    @contextmanager
    def broken_creations(self) -> Iterator[None]:
        """Let the power fail before a VM has its directory."""

        def crash(_: Path) -> None:
            raise OSError("power loss")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local, "make_directory", crash)
            yield


class SimulatedSite:
    """The simulated infrastructure."""

    def __init__(self) -> None:
        self.world = SimulatedMachines()
        self.infrastructure: Infrastructure = SimulatedInfrastructure(self.world)
        self.other: Infrastructure = SimulatedInfrastructure(self.world)

    async def request(self, name: str = "vcha-new") -> NodeRequest:
        """Return a request for a node."""
        return _request(name)

    async def lose_host(self, host: str) -> None:
        """Let a host be away."""
        self.world.faults.add(f"{host} is away")

    async def return_host(self, host: str) -> None:
        """Let a host be there."""
        self.world.faults.remove(f"{host} is away")

    @contextmanager
    def broken_creations(self) -> Iterator[None]:
        """Let creations stop half made."""
        self.world.faults.add("creations stop")
        yield
        self.world.faults.remove("creations stop")
