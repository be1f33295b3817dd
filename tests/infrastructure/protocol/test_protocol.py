"""What every infrastructure does, whatever its kind: the protocol of `infrastructure/interface.py`.

A host that does not respond is never taken for one that is off; what is asked for twice happens
once; and what is half made or half deleted is found again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable

import pytest
from msgspec.structs import replace
from tests.support.infrastructure_sites import Site
from tests.support.simulated.observations import ip
from tests.support.vms import created, vm_of

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.secret import Secret
from openvcha.api.structures import VmPowerState
from openvcha.infrastructure.boot import BOOT_FILE, Boot, decode_boot
from openvcha.infrastructure.interface import Creation, Infrastructure, NodeRequest, Power

HOST = "host-12"


async def refused(attempt: Awaitable[object]) -> ErrorType:
    """Return the type of the error that an attempt ends with."""
    with pytest.raises(ApiError) as caught:
        await attempt
    return caught.value.error_type


async def begun(infrastructure: Infrastructure, request: NodeRequest) -> Creation:
    """Begin a creation that breaks, and return what is found of it."""
    with contextlib.suppress(OSError, ApiError):
        await infrastructure.begin(request)
    found = await infrastructure.find(request.token)
    assert found is not None
    return found


async def test_a_new_vm_is_off_and_knows_its_place(site: Site) -> None:
    """The creation is done, has the token, and all processes see the same VM."""
    request = await site.request()
    vm = await created(site.infrastructure, request)
    assert (vm.name, vm.host, vm.power_state) == ("vcha-new", HOST, VmPowerState.POWERED_OFF)
    found = await site.other.find(request.token)
    assert found is not None
    assert (found.vm, found.token, found.done) == (vm.id, request.token, True)
    state = await site.other.node(vm.id)
    assert (state.power, state.host, state.bios_uuid) == (Power.OFF, HOST, vm.bios_uuid)
    assert state.reason is None


async def test_what_does_not_exist_is_gone(site: Site) -> None:
    """It is off, there is nothing to delete, and it cannot be powered on."""
    assert await site.infrastructure.find("no such token") is None
    assert (await site.infrastructure.node("vm-1")).power is Power.GONE
    assert await site.infrastructure.power_off("vm-1") is Power.GONE
    assert await site.infrastructure.delete("vm-1")
    assert await refused(site.infrastructure.power_on("vm-1")) is ErrorType.NOT_FOUND


async def test_a_token_is_one_vm(site: Site) -> None:
    """However often and by whomever it is asked for."""
    request = await site.request()
    vm = await created(site.infrastructure, request)
    again = await asyncio.gather(*(who.begin(request) for who in (site.infrastructure, site.other)))
    assert {creation.vm for creation in again} == {vm.id}
    assert len((await site.infrastructure.inventory()).vms) == 1


async def test_a_name_is_one_vm(site: Site) -> None:
    """Another token cannot have it."""
    request = await site.request()
    await created(site.infrastructure, request)
    other = replace(request, token="another")
    assert await refused(site.infrastructure.begin(other)) is ErrorType.ALREADY_EXISTS
    assert await site.infrastructure.find("another") is None


async def test_an_identifier_is_never_used_again(site: Site) -> None:
    """A VM that is created again is another one."""
    request = await site.request()
    first = await created(site.infrastructure, request)
    assert await site.infrastructure.delete(first.id)
    assert (await site.infrastructure.node(first.id)).power is Power.GONE
    assert await site.infrastructure.find(request.token) is None
    second = await created(site.infrastructure, request)
    assert second.id != first.id
    assert second.bios_uuid != first.bios_uuid


async def test_power(site: Site) -> None:
    """On and off, each idempotent, and seen by all processes."""
    vm = await created(site.infrastructure, await site.request())
    for _ in range(2):
        await site.infrastructure.power_on(vm.id)
        assert (await site.other.node(vm.id)).power is Power.ON
    assert (await vm_of(site.other, vm.id)).power_state is VmPowerState.POWERED_ON
    for _ in range(2):
        assert await site.infrastructure.power_off(vm.id) is Power.OFF
        assert (await site.other.node(vm.id)).power is Power.OFF


async def test_what_runs_is_deleted_too(site: Site) -> None:
    """Deleting powers off, and is idempotent."""
    vm = await created(site.infrastructure, await site.request())
    await site.infrastructure.power_on(vm.id)
    assert await site.infrastructure.delete(vm.id)
    assert await site.other.delete(vm.id)
    assert (await site.other.inventory()).vms == ()


async def test_a_node_has_its_boot_before_it_starts(site: Site) -> None:
    """It says how to join; it is not replaced under a node that runs."""
    boot = Boot(
        join=("https://127.83.2.11:8443", "https://127.83.1.10:8443"),
        token=Secret("one use"),
        authority_sha256="ab" * 32,
        role="passive",
        name="vcha-new",
        ha_ip=ip("127.83.2.12"),
    )
    request = replace(await site.request(), boot=boot)
    vm = await created(site.infrastructure, request)
    assert decode_boot(await site.infrastructure.read_file(vm.id, BOOT_FILE)) == boot
    await site.infrastructure.power_on(vm.id)
    other = replace(request, boot=replace(boot, token=Secret("another")))
    await site.infrastructure.begin(other)
    assert decode_boot(await site.infrastructure.read_file(vm.id, BOOT_FILE)) == boot


async def test_files_are_written_while_it_is_off(site: Site) -> None:
    """A running node has read them already."""
    vm = await created(site.infrastructure, await site.request())
    await site.infrastructure.write_files(vm.id, {"tls/node.key": b"key"})
    assert await site.other.read_file(vm.id, "tls/node.key") == b"key"
    assert await refused(site.other.read_file(vm.id, "tls/no.key")) is ErrorType.NOT_FOUND
    await site.infrastructure.power_on(vm.id)
    write = site.infrastructure.write_files(vm.id, {"tls/node.key": b"other"})
    assert await refused(write) is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE


@pytest.mark.parametrize("on", [True, False])
async def test_what_cannot_be_reached_is_neither_on_nor_off(site: Site, *, on: bool) -> None:
    """It says why, changes nothing, and is known again when the host is back."""
    vm = await created(site.infrastructure, await site.request())
    if on:
        await site.infrastructure.power_on(vm.id)
    await site.lose_host(HOST)
    state = await site.infrastructure.node(vm.id)
    assert state.power is Power.UNKNOWN
    assert not state.power.certainly_off
    assert state.reason is not None
    assert state.bios_uuid == vm.bios_uuid
    assert await site.infrastructure.power_off(vm.id) is Power.UNKNOWN
    for attempt in (
        site.infrastructure.power_on(vm.id),
        site.infrastructure.write_files(vm.id, {"a": b""}),
        site.infrastructure.read_file(vm.id, "a"),
    ):
        assert await refused(attempt) is ErrorType.RESOURCE_INACCESSIBLE
    assert [one.id for one in (await site.infrastructure.inventory(power=True)).vms] == [vm.id]
    await site.return_host(HOST)
    assert (await site.infrastructure.node(vm.id)).power is (Power.ON if on else Power.OFF)


async def test_nothing_is_created_on_a_lost_host(site: Site) -> None:
    """No trace is left."""
    request = await site.request()
    await site.lose_host(HOST)
    begin = site.infrastructure.begin(request)
    assert await refused(begin) is ErrorType.RESOURCE_INACCESSIBLE
    await site.return_host(HOST)
    assert await site.infrastructure.find(request.token) is None
    await created(site.infrastructure, request)


async def test_a_deletion_on_a_lost_host_is_owed(site: Site) -> None:
    """Until then the VM is unknown, is never started again, and gives its address up."""
    request = await site.request()
    vm = await created(site.infrastructure, request)
    await site.infrastructure.power_on(vm.id)
    await site.lose_host(HOST)
    for who in (site.infrastructure, site.other):
        assert await who.delete(vm.id) is False
        assert (await who.node(vm.id)).power is Power.UNKNOWN
    found = await site.other.find(request.token)
    assert found is not None
    assert (found.vm, found.done) == (vm.id, False)
    assert not await site.infrastructure.address_in_use("127.83.2.12", "network-15")
    await site.return_host(HOST)
    assert (await site.infrastructure.node(vm.id)).power is Power.ON
    for attempt in (site.other.power_on(vm.id), site.other.begin(request)):
        assert await refused(attempt) is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE
    assert await site.other.delete(vm.id)
    assert (await site.infrastructure.node(vm.id)).power is Power.GONE
    assert await site.infrastructure.find(request.token) is None


async def test_a_half_made_vm_is_found_and_finished(site: Site) -> None:
    """By its token, after a crash, by another process; until then it is not done."""
    request = await site.request()
    with site.broken_creations():
        left = await begun(site.infrastructure, request)
    assert not left.done
    assert left.vm is not None
    vm = await created(site.other, request)
    assert vm.id == left.vm
    await site.other.power_on(vm.id)
    assert (await site.infrastructure.node(vm.id)).power is Power.ON


async def test_a_half_made_vm_is_found_and_deleted(site: Site) -> None:
    """Its creation is canceled, and nothing is left of it."""
    request = await site.request()
    with site.broken_creations():
        left = await begun(site.infrastructure, request)
    await site.other.cancel(left)
    found = await site.other.find(request.token)
    if found is not None:
        assert found.vm is not None
        assert await site.other.delete(found.vm)
    assert await site.infrastructure.find(request.token) is None
    assert (await site.infrastructure.inventory()).vms == ()
    await created(site.infrastructure, request)


async def test_the_address_of_a_vm_is_in_use(site: Site) -> None:
    """On or off, except for its replacement."""
    vm = await created(site.infrastructure, await site.request())
    assert await site.infrastructure.address_in_use("127.83.2.12", "network-15")
    assert not await site.infrastructure.address_in_use("127.83.2.12", "network-15", [vm.id])
    assert not await site.infrastructure.address_in_use("127.83.2.13", "network-15")


async def test_an_inventory_says_how_old_it_is(site: Site) -> None:
    """And a datastore has room for VMs."""
    inventory = await site.infrastructure.inventory()
    assert 0 <= inventory.age < 60
    assert await site.infrastructure.free_bytes(inventory.datastores[0].id) > 0
    assert await refused(site.infrastructure.free_bytes("no-1")) is ErrorType.NOT_FOUND
