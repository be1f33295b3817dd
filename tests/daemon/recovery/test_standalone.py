"""The store after the other nodes were given up: one node's, with no leader and no task."""

import json

import pytest
from tests.support.simulated.cluster import SimulatedCluster
from tests.support.simulated.process import Process

from openvcha.api.messages import message
from openvcha.api.secret import Secret
from openvcha.api.structures import ConfigState, TaskStatus
from openvcha.cluster import patroni_client
from openvcha.cluster.config import cluster_record
from openvcha.cluster.store_accounts import witness_permissions
from openvcha.daemon.initial_config import write_first_config
from openvcha.daemon.recovery.standalone import stand_alone
from openvcha.node.etcd.account import new_account, new_data_account
from openvcha.store import keys
from openvcha.store.memory import MemoryStore
from openvcha.store.records import decode
from openvcha.store.sealing.seal import Seals
from openvcha.store.sealing.sealed_store import SealedStore
from openvcha.tasks.record import TaskRecord

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("held", [True, False])
async def test_a_cluster_of_three_becomes_one_node_that_may_be_deployed(held: bool) -> None:
    """It is idempotent; the task has ended, also one without its hold; Patroni may lead."""
    world = SimulatedCluster()
    first, second = await world.found("vcha-1", 1), await world.found("vcha-2", 2)
    await world.configure(ConfigState.CONFIGURED, first, second)
    identity = world.machine(second.member).identity
    services = Process(world, identity).services
    task = await services.journal.create(
        service="s", operation="o$task", description=message("passive.redeploy"), user="u"
    )
    store = world.store
    if not held:  # a thief has deleted it
        await store.delete(keys.OPERATION)
    await store.put(keys.PATRONI_LEADER, first.member.encode())
    await store.put(keys.PATRONI_SYNC, b'{"leader": "vcha-1", "sync_standby": null}')
    await store.put(keys.PATRONI_STATUS, b"{}")
    modes = dict.fromkeys(keys.SETTINGS, True)
    undeploy = {**patroni_client.WITHOUT_STANDBY, patroni_client.FAILSAFE: True}
    settings = {**modes, **undeploy, "ttl": 20}
    await store.put(keys.PATRONI_FAILSAFE, b'{"vcha-1": "url"}')
    await store.put(keys.PATRONI_CONFIG, json.dumps(settings).encode())
    await store.put(keys.patroni_member(first.member), b"{}")
    await store.put(keys.user("kept"), b"{}")
    own = new_data_account()
    await store.accounts.enable_auth(own)
    await store.accounts.grant(new_account("vcha-3"), witness_permissions("vcha-3"))
    await store.accounts.grant(new_data_account(), ())  # a thief's, with a plausible name
    for _ in range(2):
        await stand_alone(store, identity, lambda: own)
    left = {kv.key for kv in await store.prefix(keys.PATRONI)}
    assert left <= {keys.PATRONI_CONFIG, keys.PATRONI_INITIALIZE}
    config = await store.get(keys.PATRONI_CONFIG)
    assert config
    assert json.loads(config.value) == {**patroni_client.PROTECTING, "ttl": 20}
    ended = await store.get(keys.task(task.id))
    assert ended
    record = decode(ended, TaskRecord)
    assert record.status is TaskStatus.FAILED
    assert record.error
    assert await store.get(keys.OPERATION) is None
    assert await store.get(keys.user("kept"))
    assert await store.accounts.list_names() == {own.name}
    await write_first_config(store, services.infrastructure, identity)
    found = await cluster_record(store).get()
    assert found
    assert (found.state, [n.member for n in found.nodes]) == (
        ConfigState.NOTCONFIGURED,
        [second.member],
    )
    await world.end()


@pytest.mark.parametrize("operation", [b"x", b"\xff"])
@pytest.mark.parametrize("sealed", [True, False])
async def test_what_cannot_be_read_of_a_task_or_of_patroni_stops_nothing(
    operation: bytes, sealed: bool
) -> None:
    """The store is isolated by then: a thief's record must not prevent the recovery."""
    world = SimulatedCluster()
    first, second = await world.found("vcha-1", 1), await world.found("vcha-2", 2)
    await world.configure(ConfigState.CONFIGURED, first, second)
    identity = world.machine(second.member).identity
    raw = world.store
    await raw.put(keys.OPERATION, operation)
    await raw.put(keys.task("x"), b"rubbish")
    await raw.put(keys.PATRONI_CONFIG, b"rubbish")
    own = new_data_account()
    await raw.accounts.enable_auth(own)
    await stand_alone(_Sealed(raw) if sealed else raw, identity, lambda: own)
    assert await raw.get(keys.OPERATION) is None
    assert await raw.get(keys.CLUSTER) is None
    await world.end()


class _Sealed(SealedStore):
    """A data node's store over the simulated one."""

    def __init__(self, raw: MemoryStore) -> None:
        super().__init__(raw, Seals(lambda: [Secret("k")]))
        self.accounts = raw.accounts
