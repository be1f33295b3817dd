"""The first configuration: written once, true, and never over another."""

import pytest
from tests.service.process import Process
from tests.service.simulated import World

from openvcha.api.structures import ConfigState
from openvcha.cluster.config import cluster_record
from openvcha.serving.first import write_first_config

pytestmark = pytest.mark.looptime


async def test_it_is_written_once_and_never_again() -> None:
    """A node that leads later finds what the first one wrote."""
    world = World()
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
    """The configuration would name a VM that is not there."""
    world = World()
    identity = world.machine((await world.found("vcha-1", 1)).member).identity
    infrastructure = Process(world, identity).services.infrastructure
    await world.delete_vm(identity.vm)
    with pytest.raises(LookupError):
        await write_first_config(world.store, infrastructure, identity)
    assert await cluster_record(world.store).get() is None
    await world.end()
