"""The first configuration: written once, correct, and never over another."""

from pathlib import Path

import msgspec
import pytest
from tests.support.simulated.cluster import SimulatedCluster
from tests.support.simulated.process import Process

from openvcha.api.structures import ConfigState
from openvcha.cluster.config import cluster_record
from openvcha.daemon.infrastructure import node_infrastructure
from openvcha.daemon.initial_config import write_first_config
from openvcha.node.identity import UNMANAGED
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import KeptCluster, KeptMember
from openvcha.store.errors import RecordMissing

pytestmark = pytest.mark.looptime


async def test_it_is_written_once_and_never_again() -> None:
    """A node that leads later finds what the first one wrote."""
    world = SimulatedCluster()
    node = await world.found("vcha-1", 1)
    identity = world.machine(node.member).identity
    infrastructure = Process(world, identity).services.infrastructure
    await write_first_config(world.store, infrastructure, identity)
    config = await world.config()
    assert config.state is ConfigState.NOTCONFIGURED
    (only,) = config.nodes
    assert (only.member, only.vm, only.ha_address) == (node.member, node.vm, "127.83.2.11")
    kept = (await cluster_record(world.store).read(), world.store.revision)
    await write_first_config(world.store, infrastructure, identity)
    assert (await cluster_record(world.store).read(), world.store.revision) == kept
    await world.end()


async def test_a_node_that_the_inventory_does_not_know_writes_nothing() -> None:
    """The configuration would name a VM that does not exist."""
    world = SimulatedCluster()
    identity = world.machine((await world.found("vcha-1", 1)).member).identity
    infrastructure = Process(world, identity).services.infrastructure
    await world.delete_vm(identity.vm)
    with pytest.raises(LookupError):
        await write_first_config(world.store, infrastructure, identity)
    assert await cluster_record(world.store).get() is None
    await world.end()


@pytest.mark.parametrize("knows", ["by its birth", "by what it kept"])
async def test_a_node_that_has_had_others_never_begins_a_cluster(knows: str) -> None:
    """The configuration was lost then, not yet to be written: a new one would forget the others."""
    world = SimulatedCluster()
    identity = world.machine((await world.found("vcha-1", 1)).member).identity
    infrastructure = Process(world, identity).services.infrastructure
    kept = None
    if knows == "by its birth":
        peers = {identity.member: "https://127.83.2.11:2380", "o": "https://127.83.2.12:2380"}
        identity = msgspec.structs.replace(identity, etcd_initial_cluster=peers)
    else:
        kept = _kept(identity.member, "other")
    with pytest.raises(RecordMissing, match="does not start a new configuration"):
        await write_first_config(world.store, infrastructure, identity, kept)
    assert await cluster_record(world.store).get() is None
    await world.end()


async def test_a_node_that_has_only_ever_known_itself_begins_it() -> None:
    """The first node stores what it knows before it leads, and its identity names only itself."""
    world = SimulatedCluster()
    identity = world.machine((await world.found("vcha-1", 1)).member).identity
    infrastructure = Process(world, identity).services.infrastructure
    peers = {identity.member: "https://127.83.2.11:2380"}
    identity = msgspec.structs.replace(identity, etcd_initial_cluster=peers)
    await write_first_config(world.store, infrastructure, identity, _kept(identity.member))
    assert await cluster_record(world.store).get()
    await world.end()


async def test_a_node_without_an_inventory_takes_the_prefixes_from_its_identity() -> None:
    """Its VM is unknown, as that of every node that was made by hand."""
    world = SimulatedCluster()
    identity = world.machine((await world.found("vcha-1", 1)).member).identity
    given = {"kind": UNMANAGED, "ha_prefix": 28, "public_prefix": 23}
    identity = msgspec.structs.replace(identity, vm="", infrastructure=given)
    await write_first_config(
        world.store, node_infrastructure(identity, Layout(Path("/"))), identity
    )
    config = await world.config()
    (only,) = config.nodes
    assert only.ha_ip.ipv4
    assert config.management.ipv4
    assert (only.vm, only.bios_uuid) == ("", "")
    assert (only.ha_ip.ipv4.prefix, config.management.ipv4.prefix) == (28, 23)
    await world.end()


def _kept(own: str, *others: str) -> KeptCluster:
    members = tuple(KeptMember(member=one, peer_url="", client_url="") for one in (own, *others))
    return KeptCluster(own=own, store_id="", revision=1, seen="", listed=True, members=members)
