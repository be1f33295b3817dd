"""Where a new data node holds the public address: its host's interface, if that can hold it."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace
from tests.support.simulated.observations import ip
from tests.support.simulated.scenes import ClusterScenario, placement
from tests.support.two_hosts import TwoHosts, request_on

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster.config import NodeKind
from openvcha.infrastructure.hosts.orders import AskHelper
from openvcha.infrastructure.inventory import Inventory
from openvcha.node.public_interface import PublicInterface
from openvcha.operations.context import Services
from openvcha.operations.steps.check import NodeRequest, check
from openvcha.operations.steps.public_place import interface_for, public_place

PUBLIC = "198.18.1.10"


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[TwoHosts]:
    made = await TwoHosts(tmp_path).plugged()
    yield made
    await made.end()


async def place(
    two: TwoHosts, address: str = PUBLIC, public: PublicInterface | None = None
) -> tuple[str, tuple[LocalizableMessage, ...]]:
    identity = SimpleNamespace(public=public or PublicInterface(interface="of the active"))
    services = cast(
        "Services", SimpleNamespace(identity=identity, infrastructure=two.infrastructure)
    )
    inventory = (await two.record.load()).inventory
    placement = request_on(two.hosts[0]).placement
    return await public_place(services, inventory, placement, ip(address), "spec.placement")


async def test_the_interface_is_that_of_the_host(two: TwoHosts) -> None:
    """The active's may have another name; the host's helper is asked for exactly this one."""
    assert await place(two) == ("eth0", ())
    assert two.asked == [
        AskHelper(socket=f"/run/openvcha-address/{PUBLIC}.sock", interface="eth0", address=PUBLIC)
    ]


async def test_a_host_without_a_network_for_the_address_is_refused(two: TwoHosts) -> None:
    """No helper needs to be asked."""
    interface, (found,) = await place(two, "203.0.113.10")
    assert (interface, two.asked) == ("", [])
    assert found.id.endswith("address.host.network")
    assert found.args == ("spec.placement.host", "one", "203.0.113.10")


@pytest.mark.parametrize("away", [False, True])
async def test_a_host_whose_helper_could_not_hold_it_is_refused(two: TwoHosts, away: bool) -> None:
    """With what to type there; also if nobody can be asked."""
    two.obstacle = "its helper at /run/x: No such file or directory"
    two.away = {"host-12"} if away else set()
    interface, (found,) = await place(two)
    assert interface == ""
    assert found.id.endswith("address.host.helper")
    assert ("no answer" if away else two.obstacle) in found.default_message
    assert found.default_message.endswith(f"vcha systemd address {PUBLIC} eth0")


async def test_an_address_that_is_on_no_interface_needs_no_helper(two: TwoHosts) -> None:
    """A forwarder listens at it."""
    services = cast("Services", SimpleNamespace(identity=SimpleNamespace(public=None)))
    inventory = (await two.record.load()).inventory
    placement = request_on(two.hosts[0]).placement
    assert await public_place(services, inventory, placement, ip(PUBLIC), "x") == ("", ())


async def test_the_narrowest_network_is_the_address_s_own(two: TwoHosts) -> None:
    """A host may also have a wider one around it."""
    inventory = (await two.record.load()).inventory
    wide = replace(inventory.networks[0], id="wide", subnet="198.18.0.0/15")
    host = replace(inventory.hosts[0], interfaces={"wide": "eth9", **inventory.hosts[0].interfaces})
    around = Inventory(networks=(wide, *inventory.networks), hosts=(host,))
    assert interface_for(around, host, PUBLIC) == "eth0"
    assert interface_for(around, host, "198.19.0.1") == "eth9"
    assert interface_for(around, host, "2001:db8::1") is None


async def test_a_check_of_a_data_node_includes_it(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What prevents it is an error; the interface is stored with the node. A witness needs none."""
    await scene.cluster()
    services = scene.process().services
    asked = 0

    async def told(*_: object) -> tuple[str, tuple[LocalizableMessage, ...]]:
        nonlocal asked
        asked += 1
        return "eth7", ()

    monkeypatch.setattr("openvcha.operations.steps.check.public_place", told)
    seen = await services.observe()
    wish = NodeRequest("spec.", NodeKind.DATA, placement(), ip("127.83.2.99"), None, "token")
    found = await check(services, seen, wish)
    assert found.node is not None, found.errors
    assert found.node.public_interface == "eth7"
    witness = dataclasses.replace(wish, kind=NodeKind.WITNESS)
    assert (await check(services, seen, witness)).node is not None
    assert asked == 1

    async def refused(*_: object) -> tuple[str, tuple[LocalizableMessage, ...]]:
        return "", (message("address.host.network", "spec.placement.host", "h2", PUBLIC),)

    monkeypatch.setattr("openvcha.operations.steps.check.public_place", refused)
    found = await check(services, seen, wish)
    assert found.node is None
    assert [one.id.rpartition(".")[2] for one in found.errors] == ["network"]
