"""Hosts as an infrastructure: the inventory in the store, agents that may be out of reach."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.two_hosts import TwoHosts, request_on

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import HostConnectionState
from openvcha.infrastructure import changes
from openvcha.infrastructure.hosts.agent import listens, responds
from openvcha.infrastructure.hosts.infrastructure import HostsInfrastructure
from openvcha.infrastructure.hosts.measurement import (
    AGAIN_SECONDS,
    BUSY_SECONDS,
    NEVER,
    QUICK_SECONDS,
    SPACE_SECONDS,
)
from openvcha.infrastructure.hosts.orders import DATASTORE_MARK
from openvcha.infrastructure.interface import Power
from openvcha.store import keys


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[TwoHosts]:
    made = await TwoHosts(tmp_path).plugged()
    yield made
    await made.end()


def refusal(error: pytest.ExceptionInfo[ApiError]) -> ErrorType:
    return error.value.error_type


async def test_a_vm_lives_on_its_host(two: TwoHosts) -> None:
    """From its creation to its deletion, each of which may be repeated."""
    host, _ = two.hosts
    means = two.infrastructure
    made = await means.begin(request_on(host))
    assert await means.begin(request_on(host)) == made
    assert await means.find(made.token) == made
    assert made.vm
    assert (await means.node(made.vm)).power is Power.OFF
    await means.power_on(made.vm)
    assert (await means.node(made.vm)).power is Power.ON
    assert await means.power_off(made.vm) is Power.OFF
    assert await means.delete(made.vm)
    assert await means.delete(made.vm)
    assert (await means.node(made.vm)).power is Power.GONE
    assert await means.find(made.token) is None
    assert [path.name for path in two.paths[0].iterdir()] == [DATASTORE_MARK]


async def test_a_host_that_is_away_is_unknown_not_off(two: TwoHosts) -> None:
    """Nothing is begun there; its deletions are owed, and done once it is back."""
    host, other = two.hosts
    means = two.infrastructure
    made = await means.begin(request_on(host))
    assert made.vm
    await means.power_on(made.vm)
    two.away.add("host-12")
    state = await means.node(made.vm)
    assert state.power is Power.UNKNOWN
    assert state.reason
    assert "no answer" in state.reason.default_message
    assert await means.power_off(made.vm) is Power.UNKNOWN
    assert not await means.delete(made.vm)
    for call in (
        means.power_on(made.vm),
        means.write_files(made.vm, {}),
        means.read_file(made.vm, "x"),
    ):
        with pytest.raises(ApiError) as refused:
            await call
        assert refusal(refused) is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE
    with pytest.raises(ApiError) as refused:
        await means.begin(request_on(host, "vcha-9"))
    assert refusal(refused) is ErrorType.RESOURCE_INACCESSIBLE
    assert (await two.record.load()).inventory.vm_by_name("vcha-9") is None
    assert (await means.begin(request_on(other, "vcha-4"))).done
    two.away.clear()
    assert await means.delete(made.vm)
    assert (await means.node(made.vm)).power is Power.GONE
    assert [path.name for path in two.paths[0].iterdir()] == [DATASTORE_MARK]


async def test_an_answer_that_is_lost_costs_nothing(two: TwoHosts) -> None:
    """What was done is found by its token, and is not done twice."""
    host, _ = two.hosts
    means = two.infrastructure
    two.lost = True
    with pytest.raises(ApiError) as refused:
        await means.begin(request_on(host))
    assert refusal(refused) is ErrorType.RESOURCE_INACCESSIBLE
    two.lost = False
    made = await means.begin(request_on(host))
    assert made.done
    two.lost = True
    assert await means.power_off(str(made.vm)) is Power.UNKNOWN
    assert not await means.delete(str(made.vm))
    two.lost = False
    assert await means.delete(str(made.vm))


async def test_a_vm_that_the_inventory_never_had_is_not_gone(two: TwoHosts) -> None:
    """The record may be lost, or be an older copy: the VM may be running, and stays owed."""
    host, _ = two.hosts
    means = two.infrastructure
    made = await means.begin(request_on(host))
    assert made.vm
    number = int(made.vm.removeprefix("vm-"))
    for vm in (f"vm-{number + 1}", "vm-x", "vm-"):
        assert (await means.node(vm)).power is Power.UNKNOWN
        assert await means.power_off(vm) is Power.UNKNOWN
        assert not await means.delete(vm)
    assert await means.delete(made.vm)
    await two.store.delete(keys.INVENTORY)
    assert (await means.node(made.vm)).power is Power.UNKNOWN
    assert not await means.delete(made.vm)


async def test_half_a_creation_is_found(two: TwoHosts) -> None:
    """A crash after the entry: it is continued, or deleted."""
    host, _ = two.hosts
    (two.paths[0] / DATASTORE_MARK).write_bytes(b"")
    request = request_on(host)
    vm = await two.record.change(lambda state: changes.add_vm(state, request, "uuid"))
    found = await two.infrastructure.find(request.token)
    assert found
    assert (found.vm, found.done) == (vm.id, False)
    assert await two.infrastructure.delete(vm.id)
    assert await two.infrastructure.find(request.token) is None


async def test_the_inventory_shows_who_responds_and_how_old_it_is(two: TwoHosts) -> None:
    """It is read each second: a host is not asked that often."""
    seconds = [1000.0]
    means = HostsInfrastructure(two.record, two.ask, clock=lambda: seconds[0])
    two.away.add("host-13")
    shown = await means.inventory()
    assert [host.connection_state for host in shown.hosts] == [
        HostConnectionState.CONNECTED,
        HostConnectionState.NOT_RESPONDING,
    ]
    assert [one.free_space > 0 for one in shown.datastores] == [True, False]
    two.away.clear()
    seconds[0] += 10
    again = await means.inventory()
    assert again.age == 10
    assert again.hosts == shown.hosts
    seconds[0] += 10
    later = await means.inventory()
    assert later.age == 0
    assert {host.connection_state for host in later.hosts} == {HostConnectionState.CONNECTED}


async def test_a_host_that_is_late_once_is_not_lost(two: TwoHosts) -> None:
    """It is busy: it is asked again soon. Twice in a row is a verdict."""
    seconds = [1000.0]
    means = HostsInfrastructure(two.record, two.ask, clock=lambda: seconds[0])

    async def state() -> HostConnectionState | None:
        (_, host) = (await means.inventory()).hosts
        return host.connection_state

    assert await state() is HostConnectionState.CONNECTED
    two.away.add("host-13")
    seconds[0] += SPACE_SECONDS
    assert await state() is HostConnectionState.CONNECTED
    seconds[0] += AGAIN_SECONDS
    assert await state() is HostConnectionState.NOT_RESPONDING
    two.away.clear()
    seconds[0] += SPACE_SECONDS
    assert await state() is HostConnectionState.CONNECTED


def test_a_host_in_doubt_gets_more_time() -> None:
    """One that is new too: its agent has to start. A lost one holds nobody up."""
    found = [NEVER._replace(silent=silent).patience for silent in range(3)]
    assert found == [QUICK_SECONDS, BUSY_SECONDS, QUICK_SECONDS]
    assert NEVER.patience == BUSY_SECONDS


async def test_an_address_is_searched_where_its_network_is(two: TwoHosts) -> None:
    """Without any host that can look, nobody knows."""
    host, _ = two.hosts
    means = two.infrastructure
    made = await means.begin(request_on(host))
    assert await means.address_in_use("127.83.2.12")
    assert not await means.address_in_use("127.83.2.12", ignoring=[str(made.vm)])
    two.away |= {"host-12", "host-13"}
    with pytest.raises(ApiError) as refused:
        await means.address_in_use("127.0.0.1")
    assert refusal(refused) is ErrorType.RESOURCE_INACCESSIBLE


async def test_a_node_needs_an_address_of_its_host(two: TwoHosts) -> None:
    """Whether a host has it, only that host knows."""
    host, _ = two.hosts
    assert await two.infrastructure.lacks_address(host.id, "192.0.2.9")
    assert not await two.infrastructure.lacks_address(host.id, "127.0.0.1")
    assert not await two.infrastructure.lacks_address("host-99", "192.0.2.9")
    two.away.add(host.id)
    with pytest.raises(ApiError) as refused:
        await two.infrastructure.lacks_address(host.id, "127.0.0.1")
    assert refusal(refused) is ErrorType.RESOURCE_INACCESSIBLE


def test_an_address_that_a_host_has_is_not_yet_used() -> None:
    """Its kernel refuses connections; only a program that listens uses it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        assert listens("127.0.0.1", [port])
    assert not listens("127.0.0.1", [port])
    assert responds("127.0.0.1", [port])


@pytest.mark.parametrize("answer", [b"", b"not JSON", b'{"result": 7}', b'{"result": []}'])
async def test_an_answer_that_makes_no_sense_is_none(two: TwoHosts, answer: bytes) -> None:
    """A host of another version, or a broken one, is unknown."""
    host, _ = two.hosts
    made = await two.infrastructure.begin(request_on(host))

    async def nonsense(*_: Any) -> bytes:
        return answer

    means = HostsInfrastructure(two.record, nonsense)
    assert (await means.node(str(made.vm))).power is Power.UNKNOWN


@pytest.mark.parametrize("vm", ["", "by hand"])
async def test_a_node_that_an_administrator_made_is_never_taken_for_off(
    two: TwoHosts, vm: str
) -> None:
    """It may be running on any machine; there is nothing of ours to delete."""
    assert (await two.infrastructure.node(vm)).power is Power.UNKNOWN
    assert await two.infrastructure.power_off(vm) is Power.UNKNOWN
    assert await two.infrastructure.delete(vm)
    with pytest.raises(ApiError) as refused:
        await two.infrastructure.power_on(vm)
    assert refusal(refused) is ErrorType.NOT_FOUND


async def test_a_lost_disk_keeps_its_debt_and_gets_no_node(two: TwoHosts) -> None:
    """The host answers before its disk is mounted: the VM stays in the inventory."""
    means = two.infrastructure
    made = await means.begin(request_on(two.hosts[0]))
    assert made.vm
    disk = two.paths[0].rename(two.paths[0].with_name("disk"))
    two.paths[0].mkdir()
    for call in (means.delete(made.vm), means.begin(request_on(two.hosts[0], "vcha-9"))):
        with pytest.raises(ApiError) as refused:
            await call
        assert refusal(refused) is ErrorType.RESOURCE_INACCESSIBLE
    inventory = (await two.record.load()).inventory
    assert [vm.id for vm in inventory.vms] == [made.vm]
    two.paths[0].rmdir()
    disk.rename(two.paths[0])
    assert await means.delete(made.vm)
    assert [path.name for path in two.paths[0].iterdir()] == [DATASTORE_MARK]
