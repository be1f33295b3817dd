"""Two hosts with real agents on this machine; the way to them is SIMULATED."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.stand_in_processes import StandInProcesses

from openvcha.infrastructure import changes
from openvcha.infrastructure.hosts import orders
from openvcha.infrastructure.hosts.agent import Agent, Machine
from openvcha.infrastructure.hosts.commands import HostUnreachable
from openvcha.infrastructure.hosts.infrastructure import HostsInfrastructure
from openvcha.infrastructure.hosts.orders import Order
from openvcha.infrastructure.interface import Infrastructure, NodeRequest, Placement
from openvcha.infrastructure.inventory import Host, HostAccess
from openvcha.infrastructure.local.power import PowerTimeouts
from openvcha.infrastructure.local.processes import DetachedStarter
from openvcha.infrastructure.records import InventoryRecord
from openvcha.infrastructure.skeleton import RESOURCE_POOL, VM_FOLDER
from openvcha.store.memory import MemoryStore

STAND_IN = """
import os, pathlib, sys, time
directory = pathlib.Path(sys.argv[-1])
(directory / "run").mkdir(exist_ok=True)
(directory / "run" / "supervisor.pid").write_text(str(os.getpid()))
time.sleep(600)
"""
QUICK = PowerTimeouts(poll=0.01, power_on=60, power_off=60, busy=5)
SUBNETS = ("198.18.1.0/24", "127.83.2.0/24")


def stand_in_agent(
    timeouts: PowerTimeouts = QUICK, obstacle: Callable[[], str] = lambda: ""
) -> Agent:
    """Return an agent whose VMs run a stand-in, and that sees no address in use.

    ``obstacle`` returns what its helper of a public address says, which is SIMULATED.
    """

    async def ask_helper(_: orders.AskHelper) -> str:
        return obstacle()

    def nobody(address: str) -> bool:
        del address
        return False

    starter = DetachedStarter((sys.executable, "-c", STAND_IN))
    machine = Machine(answers=nobody, probe=nobody, listens=nobody, ask_helper=ask_helper)
    return Agent(StandInProcesses(), starter, timeouts=timeouts, machine=machine)


async def two_hosts(record: InventoryRecord, paths: tuple[str, str]) -> tuple[Host, Host]:
    """Add host-12 with datastore-14, host-13, and both their networks, 11 and 15 (HA)."""
    management = await record.change(changes.add_network("management", SUBNETS[0]))
    hosts = [
        await record.change(
            changes.add_host(name, f"uuid of {name}", HostAccess(address=name, host_key="key"))
        )
        for name in ("one", "two")
    ]
    await record.change(changes.add_datastore("one:nodes", paths[0], hosts[0].id))
    ha = await record.change(changes.add_network("ha", SUBNETS[1]))
    await record.change(changes.add_datastore("two:nodes", paths[1], hosts[1].id))
    for host in hosts:
        for network, interface in ((management, "eth0"), (ha, "eth1")):
            await record.change(changes.attach_network(host.id, network.id, interface))
    first, second = (await record.load()).inventory.hosts
    return first, second


def request_on(host: Host, name: str = "vcha-new", token: str = "") -> NodeRequest:
    """Return a request for a node on one of these hosts; its token is its name."""
    return NodeRequest(
        placement=Placement(
            name=name,
            folder=VM_FOLDER,
            host=host.id,
            resource_pool=RESOURCE_POOL,
            datastore=next(iter(host.datastores)),
            ha_network="network-15",
            management_network="network-11",
        ),
        token=token or name,
        addresses=("127.83.2.12",),
    )


class TwoHosts:
    """Two hosts below a directory. Those whose ids are in ``away`` do not respond.

    ``lost``: an order is carried out, but its answer does not come back. ``broken``: no order is
    carried out that makes a directory. ``obstacle``: what their helpers say.
    """

    def __init__(self, root: Path) -> None:
        self.paths = (root / "one", root / "two")
        self.away: set[str] = set()
        self.lost = self.broken = False
        self.asked: list[Order] = []
        self.store = MemoryStore()
        self.record = InventoryRecord(self.store)
        self.infrastructure: Infrastructure = HostsInfrastructure(self.record, self.ask)
        self.other: Infrastructure = HostsInfrastructure(self.record, self.ask)
        self.hosts: tuple[Host, ...] = ()
        self.obstacle = ""
        self._agent = stand_in_agent(obstacle=lambda: self.obstacle)

    async def plugged(self) -> "TwoHosts":
        """Add both hosts to the inventory, once."""
        if not self.hosts:
            for path in self.paths:
                path.mkdir(parents=True)
            first, second = map(str, self.paths)
            self.hosts = await two_hosts(self.record, (first, second))
        return self

    async def end(self) -> None:
        """End the programs of all VMs."""
        for path in self.paths:
            for directory in path.iterdir() if path.exists() else ():
                await StandInProcesses().kill(directory)

    async def ask(self, host: Host, order: Order, seconds: float) -> bytes:
        """Have a host's agent carry out an order. Raises HostUnreachable."""
        assert seconds > 0
        if host.id in self.away or (self.broken and isinstance(order, orders.Make)):
            raise HostUnreachable("no answer")
        self.asked.append(order)
        answer = await self._agent.answer(orders.encode_order(order))
        if self.lost:
            raise HostUnreachable("cut off")
        return answer

    async def request(self, name: str = "vcha-new") -> NodeRequest:
        """Return a request for a node on the first host."""
        await self.plugged()
        return request_on(self.hosts[0], name)

    async def lose_host(self, host: str) -> None:
        """Let a host not respond any more."""
        self.away.add(host)

    async def return_host(self, host: str) -> None:
        """Let a lost host respond again."""
        self.away.remove(host)

    @contextmanager
    def broken_creations(self) -> Iterator[None]:
        """Let the connection fail before a VM has its directory."""
        self.broken = True
        yield
        self.broken = False
