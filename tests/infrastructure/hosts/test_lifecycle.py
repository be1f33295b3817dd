"""A VM on a host by SSH: real servers and agents, cables that are cut, power that fails."""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.hosts.host import Host as Machine
from tests.support.hosts.hosts import Hosts
from tests.support.two_hosts import request_on, two_hosts
from tests.support.waiting import until_async

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import HostConnectionState
from openvcha.infrastructure import changes
from openvcha.infrastructure.hosts.infrastructure import HostsInfrastructure
from openvcha.infrastructure.hosts.orders import DATASTORE_MARK
from openvcha.infrastructure.hosts.ssh import Login, Ssh, SshLimits
from openvcha.infrastructure.hosts.ssh_agents import SshAgents
from openvcha.infrastructure.interface import Power
from openvcha.infrastructure.inventory import Host, HostAccess
from openvcha.infrastructure.records import InventoryRecord
from openvcha.store.memory import MemoryStore

ROOT = Path(__file__).parents[3]
AGENT = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.support.stand_in_agent")
QUICK = SshLimits(connect=2, keepalive=0.3, keepalives=2)


@dataclass
class Site:
    """An infrastructure of two hosts; ``ssh`` are its connections."""

    infrastructure: HostsInfrastructure
    hosts: tuple[Host, Host]
    machines: Hosts
    ssh: Ssh


@pytest.fixture
async def site(hosts: Hosts) -> AsyncIterator[Site]:
    record = InventoryRecord(MemoryStore())
    pair = await two_hosts(record, ("/srv", "/srv"))
    for host, machine in zip(pair, hosts.hosts, strict=True):
        access = HostAccess(address=machine.management, user="root", host_key=machine.host_key)
        await record.change(changes.set_access(host.id, access))
    async with Ssh(Login((hosts.client_key,)), QUICK) as ssh:
        yield Site(HostsInfrastructure(record, SshAgents(ssh, AGENT)), pair, hosts, ssh)


def vm_directories(machine: Machine) -> list[str]:
    names = {path.name for path in (machine.directory / "srv").iterdir()}
    return sorted(names - {DATASTORE_MARK})


async def power(site: Site, vm: str) -> Power:
    return (await site.infrastructure.node(vm)).power


async def until(site: Site, vm: str, wanted: Power) -> None:
    """Wait for a power; on a busy machine a look may take too long, and is UNKNOWN."""

    async def look() -> bool:
        found = await power(site, vm)
        assert found in {wanted, Power.UNKNOWN}
        return found is wanted

    await until_async(look, 60)


async def test_a_vm_outlives_the_connection_and_not_its_host(site: Site) -> None:
    """It is created, started and deleted on its own host; after a power failure it is off."""
    machine, other = site.machines[1], site.machines[2]
    made = await site.infrastructure.begin(request_on(site.hosts[0]))
    vm = str(made.vm)
    assert (vm_directories(machine), vm_directories(other)) == (["vcha-new"], [])
    await site.infrastructure.power_on(vm)
    await site.ssh.close()
    await until(site, vm, Power.ON)
    machine.power_off()
    try:
        assert await power(site, vm) is Power.UNKNOWN
        first, *_ = (await site.infrastructure.inventory()).hosts
        assert first.connection_state is HostConnectionState.NOT_RESPONDING
    finally:
        machine.power_on()
    await until(site, vm, Power.OFF)
    assert await site.infrastructure.delete(vm)
    assert vm_directories(machine) == []


@pytest.mark.soak
async def test_what_is_behind_a_cut_cable_is_owed(site: Site) -> None:
    """It goes on there; once the cable is healed it is deleted, and nothing is left."""
    machine = site.machines[1]
    made = await site.infrastructure.begin(request_on(site.hosts[0], "vcha-cut"))
    vm = str(made.vm)
    await site.infrastructure.power_on(vm)
    machine.cut("mgmt")
    try:
        assert await power(site, vm) is Power.UNKNOWN
        assert await site.infrastructure.power_off(vm) is Power.UNKNOWN
        assert not await site.infrastructure.delete(vm)
        with pytest.raises(ApiError) as refused:
            await site.infrastructure.begin(request_on(site.hosts[0], "vcha-later"))
        assert refused.value.error_type is ErrorType.RESOURCE_INACCESSIBLE
        assert "supervisor.pid" in machine.run("ps", "-e", "-ww", "-o", "args")
    finally:
        machine.heal("mgmt")

    async def deleted() -> bool:
        return await site.infrastructure.delete(vm)

    await until_async(deleted, 30)
    assert vm_directories(machine) == []
    assert "supervisor.pid" not in machine.run("ps", "-e", "-ww", "-o", "args")
