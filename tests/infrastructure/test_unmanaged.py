"""No infrastructure: it creates nothing, and does not claim to know what is off."""

from typing import Any

import pytest

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import IpFamily
from openvcha.infrastructure.interface import NodeRequest, Placement, Power
from openvcha.infrastructure.inventory import Inventory
from openvcha.infrastructure.unmanaged import UnmanagedMachines, accepts

PLACE = dict.fromkeys(
    ("folder", "host", "resource_pool", "datastore", "ha_network", "management_network"), ""
)


async def test_nothing_is_created() -> None:
    """The refusal names the way by hand."""
    none = UnmanagedMachines((1,))
    request = NodeRequest(placement=Placement(name="x", **PLACE), token="t")
    with pytest.raises(ApiError) as refused:
        await none.begin(request)
    assert refused.value.error_type is ErrorType.UNSUPPORTED
    assert "docs/manual.md" in refused.value.messages[0].default_message
    assert await none.find("t") is None
    assert await none.inventory() == Inventory()
    assert none.unsupported_family(IpFamily.IPV6) is None


async def test_a_machine_is_never_certainly_off() -> None:
    """Whoever switches it off must say so."""
    none: Any = UnmanagedMachines((1,))
    assert (await none.node("vm-1")).power is Power.UNKNOWN
    assert await none.power_off("vm-1") is Power.UNKNOWN
    for refused in (none.power_on("x"), none.read_file("x", "y"), none.free_bytes("z")):
        with pytest.raises(ApiError) as error:
            await refused
        assert error.value.error_type is ErrorType.NOT_FOUND


async def test_an_address_is_in_use_where_a_node_responds() -> None:
    """At any of a node's ports; that the address exists is no conflict."""
    tried = []

    async def responds(address: str, port: int) -> bool:
        tried.append((address, port))
        return port == 2

    assert await UnmanagedMachines((1, 2), responds).address_in_use("192.0.2.1")
    assert not await UnmanagedMachines((3,), responds).address_in_use("192.0.2.1", ignoring=["a"])
    assert tried == [("192.0.2.1", port) for port in (1, 2, 3)]


async def test_a_port_without_a_program_accepts_nothing(unused_tcp_port: int) -> None:
    """On this machine that is known at once."""
    assert not await accepts("127.0.0.1", unused_tcp_port)
