"""cluster.get and operations.get tell the truth, also while something is wrong or unknown."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.observations import ip
from tests.support.simulated.scenes import CALLER, ClusterScenario, placement

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.secret import Secret
from openvcha.api.structures import (
    ClusterMode,
    ClusterState,
    ConfigState,
    ConnectionSpec,
    CredentialsSpec,
    NodeRole,
    NodeState,
    PassiveCheckSpec,
    VmPowerState,
)
from openvcha.cluster import mode_settings, preconditions
from openvcha.cluster.config import cluster_record
from openvcha.cluster.observing.observation import Observation
from openvcha.daemon.keepers.inventory import InventoryKeeper
from openvcha.infrastructure import changes
from openvcha.infrastructure.queries import LISTS
from openvcha.operations.context import Services
from openvcha.operations.reads import get_active, get_cluster, get_operations
from openvcha.operations.redeploy import check_passive
from openvcha.operations.registry import handlers
from openvcha.store import keys

pytestmark = SIMULATED

PREFIX = "com.vmware.vcenter.vcha."


async def test_a_healthy_cluster_shows_everything_and_no_reasons(scene: ClusterScenario) -> None:
    """Roles, states, placements, addresses; fields for an unhealthy cluster are unset."""
    await scene.healthy()
    info = await get_cluster(scene.process().services, CALLER)
    assert info.config_state is ConfigState.CONFIGURED
    assert info.health_state is ClusterState.HEALTHY
    nodes = [info.node1, info.node2, info.witness]
    assert all(node and node.runtime and node.runtime.state is NodeState.UP for node in nodes)
    roles = [node.runtime.role for node in nodes if node and node.runtime]
    assert roles == [NodeRole.ACTIVE, NodeRole.PASSIVE, NodeRole.WITNESS]
    assert all(node and node.runtime and node.runtime.placement for node in nodes)
    assert info.health_warnings is None
    assert info.manual_failover_allowed is None
    assert info.auto_failover_allowed is None


async def test_a_ttl_that_patroni_has_and_the_nodes_do_not_is_told(scene: ClusterScenario) -> None:
    """Somebody changed it in Patroni's configuration; the cluster stays healthy."""
    await scene.healthy()
    await mode_settings.record(scene.world.store).update(lambda fields: fields | {"ttl": 60})
    info = await get_cluster(scene.process().services, CALLER, partial=True)
    assert info.health_state is ClusterState.HEALTHY
    (warning,) = info.health_warnings or ()
    assert warning.error.id == PREFIX + "leader.ttl.differs"
    assert warning.error.args == ("60", "20")


async def test_partial_leaves_the_placements_out(scene: ClusterScenario) -> None:
    """They need the infrastructure."""
    await scene.healthy()
    info = await get_cluster(scene.process().services, CALLER, partial=True)
    assert info.node1
    assert info.node1.runtime
    assert info.node1.runtime.placement is None


async def test_a_lost_passive_is_told_with_what_follows(scene: ClusterScenario) -> None:
    """DEGRADED, no failover of either kind, and what to do."""
    await scene.cluster()
    await asyncio.sleep(2)
    info = await get_cluster(scene.process().services, CALLER)
    assert info.health_state is ClusterState.DEGRADED
    assert info.node2
    assert info.node2.runtime
    assert info.node2.runtime.state is NodeState.DOWN
    assert info.node2.runtime.role is NodeRole.PASSIVE
    assert info.manual_failover_allowed is False
    assert info.auto_failover_allowed is False
    assert info.health_warnings
    assert all(warning.recommendation for warning in info.health_warnings)


ELSEWHERE = CredentialsSpec(
    active_location=ConnectionSpec(hostname="vc.example", username="u", password=Secret("p"))
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[ErrorType]:
    """Stand in for the peer check; return which error each call has it raise if unmanaged."""
    calls: list[ErrorType] = []

    async def check_peer(
        services: Services,
        seen: Observation,
        vc_spec: CredentialsSpec | None,
        unmanaged: ErrorType = ErrorType.INVALID_ARGUMENT,
    ) -> None:
        del services, seen
        if vc_spec is not None:
            calls.append(unmanaged)

    monkeypatch.setattr("openvcha.operations.reads.check_peer", check_peer)
    return calls


async def test_the_active_tells_its_addresses_and_where_it_lives(scene: ClusterScenario) -> None:
    """The same placement as in cluster.get, complete."""
    await scene.healthy()
    services = scene.process().services
    info = await get_active(services, CALLER)
    assert info.management == ip("127.83.1.10")
    assert info.ha == ip("127.83.2.11")
    assert info.placement
    cluster = await get_cluster(services, CALLER)
    assert cluster.node1
    assert cluster.node1.runtime
    assert info.placement == cluster.node1.runtime.placement
    unset = [name for name in info.placement.__struct_fields__ if not getattr(info.placement, name)]
    assert unset == []


async def test_the_active_is_told_before_there_is_a_cluster(scene: ClusterScenario) -> None:
    """A caller who deploys needs its placement first."""
    await scene.single()
    info = await get_active(scene.process().services, CALLER)
    assert info.placement
    assert info.placement.vm_name == "vcha-1"


@pytest.mark.parametrize("get", [get_active, get_cluster])
async def test_what_a_partial_get_does_not_use_has_its_form(
    scene: ClusterScenario, get: Any
) -> None:
    """The description of the API refuses it, and so does the API."""
    await scene.healthy()
    where = replace(ELSEWHERE.active_location, password=None)
    spec = replace(ELSEWHERE, active_location=where)
    with pytest.raises(ApiError) as refused:
        await get(scene.process().services, CALLER, vc_spec=spec, partial=True)
    assert refused.value.error_type is ErrorType.INVALID_ARGUMENT


async def test_a_partial_get_asks_no_other_vcenter(
    scene: ClusterScenario, asked: list[ErrorType]
) -> None:
    """It needs less privilege, so it must not make this server connect elsewhere."""
    await scene.healthy()
    services = scene.process().services
    partial = await get_active(services, CALLER, vc_spec=ELSEWHERE, partial=True)
    await get_cluster(services, CALLER, vc_spec=ELSEWHERE, partial=True)
    assert asked == []
    assert partial.placement is None
    full = await get_active(services, CALLER, vc_spec=ELSEWHERE)
    await get_cluster(services, CALLER, vc_spec=ELSEWHERE)
    assert asked == [ErrorType.NOT_FOUND, ErrorType.INVALID_ARGUMENT]
    assert full.placement
    assert full.placement.management_vcenter_name == "vc.example"
    assert full.placement.management_vcenter_server_guid is None


async def test_an_active_that_the_inventory_does_not_know_is_not_found(
    scene: ClusterScenario,
) -> None:
    """Its addresses are known all the same."""
    await scene.healthy()
    services = scene.process().services
    scene.world.state, _ = changes.remove_vm(scene.world.machine("vcha-1-old").identity.vm)(
        scene.world.state
    )
    with pytest.raises(ApiError) as caught:
        await get_active(services, CALLER)
    assert caught.value.error_type is ErrorType.NOT_FOUND
    assert (await get_active(services, CALLER, partial=True)).ha == ip("127.83.2.11")


async def test_nobody_is_called_active_without_a_leader(scene: ClusterScenario) -> None:
    """ERROR, the documented error for everything else, with the reason."""
    await scene.healthy()
    services = scene.process().services
    await scene.world.store.delete(keys.PATRONI_LEADER)
    with pytest.raises(ApiError) as caught:
        await get_active(services, CALLER, partial=True)
    assert caught.value.error_type is ErrorType.ERROR


async def test_without_a_leader_nobody_is_called_active_or_passive(scene: ClusterScenario) -> None:
    """An unknown role is unset: calling both passive would be false."""
    await scene.healthy()
    services = scene.process().services
    await scene.world.store.delete(keys.PATRONI_LEADER)
    info = await get_cluster(services, CALLER)
    assert info.node1
    assert info.node2
    assert info.witness
    runtimes = (info.node1.runtime, info.node2.runtime, info.witness.runtime)
    assert [runtime.role for runtime in runtimes if runtime] == [None, None, NodeRole.WITNESS]
    assert info.health_state is ClusterState.DEGRADED


async def test_a_mode_without_failover_allows_none(scene: ClusterScenario) -> None:
    """DISABLED forbids both kinds, even with all nodes present."""
    await scene.cluster()
    record = cluster_record(scene.world.store)
    await record.update(lambda config: replace(config, mode=ClusterMode.DISABLED))
    info = await get_cluster(scene.process().services, CALLER)
    assert info.mode is ClusterMode.DISABLED
    assert info.manual_failover_allowed is False


async def test_what_is_not_deployed_says_only_that(scene: ClusterScenario) -> None:
    """A cluster that does not exist has no health."""
    await scene.single()
    info = await get_cluster(scene.process().services, CALLER)
    assert info.config_state is ConfigState.NOTCONFIGURED
    assert info.node1 is None
    assert info.health_state is None


async def test_a_check_without_an_active_is_refused(scene: ClusterScenario) -> None:
    """The passive is unknown then: findings could be about the wrong node."""
    await scene.healthy()
    services = scene.process().services
    await scene.world.store.delete(keys.PATRONI_LEADER)
    with pytest.raises(ApiError) as caught:
        await check_passive(services, CALLER, PassiveCheckSpec(placement=placement()))
    assert caught.value.error_type is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE


async def test_a_check_of_a_healthy_passive_finds_that_too(scene: ClusterScenario) -> None:
    """One finding among others; a check changes nothing."""
    await scene.healthy()
    wrong = PassiveCheckSpec(placement=placement("vcha-3"))
    found = await check_passive(scene.process().services, CALLER, wrong)
    ids = [text.id.removeprefix(PREFIX) for text in found.errors]
    assert ids == ["passive.healthy", "placement.name.taken"]


async def test_operations_tell_what_runs_and_what_would_be_refused(scene: ClusterScenario) -> None:
    """While a redeploy runs every other change is disabled."""
    await scene.cluster()
    services = scene.process().services
    assert preconditions.REDEPLOY_PASSIVE not in (await get_operations(services, CALLER)).disabled
    await scene.redeploy()
    told = await get_operations(services, CALLER)
    assert told.active == {preconditions.REDEPLOY_PASSIVE}
    assert preconditions.REDEPLOY_PASSIVE not in told.disabled
    assert {preconditions.DEPLOY, preconditions.FAILOVER, preconditions.SET_MODE} <= told.disabled


async def test_only_the_list_of_vms_looks_at_their_power(scene: ClusterScenario) -> None:
    """It reads every process of the machine: reads that show no power state skip it."""
    await scene.healthy()
    services = scene.process().services
    before = scene.world.power_looks
    shown = {}
    for kind in LISTS:
        shown[kind] = await handlers()[f"com.vmware.vcenter.{kind}.list"](services, CALLER)
        assert shown[kind]
        assert scene.world.power_looks == before + (kind == "VM")
        before = scene.world.power_looks
    assert {vm.power_state for vm in shown["VM"]} == {VmPowerState.POWERED_ON}
    await get_cluster(services, CALLER)
    await get_active(services, CALLER)
    assert scene.world.power_looks == before


async def test_a_node_that_does_not_see_the_inventory_shows_the_copy(
    scene: ClusterScenario,
) -> None:
    """After a failover to another machine, reads still say where the nodes are."""
    await scene.healthy()
    services = scene.process().services
    expected = await get_cluster(services, CALLER)
    member = services.identity.member
    await InventoryKeeper(services.store, services.infrastructure, member).copy()
    scene.world.faults.add("infrastructure busy")
    found = await get_cluster(services, CALLER)
    assert found.node1
    assert found.node1.runtime
    assert expected.node1
    assert expected.node1.runtime
    assert found.node1.runtime.placement == expected.node1.runtime.placement
    assert (await get_active(services, CALLER)).placement
    assert {vm.power_state for vm in await listed(services, "VM")} == {VmPowerState.POWERED_ON}
    for kind in LISTS:
        assert await listed(services, kind)
    scene.world.kill("vcha-3-old")
    for _ in range(5):
        await asyncio.sleep(2)
        shown = {vm.name: vm.power_state for vm in await listed(services, "VM")}
    assert shown["vcha-3"] is VmPowerState.POWERED_OFF


async def test_without_a_copy_reads_show_what_else_is_known(scene: ClusterScenario) -> None:
    """No placement, no item; the cluster's state and addresses are there."""
    await scene.healthy()
    services = scene.process().services
    scene.world.faults.add("infrastructure busy")
    found = await get_cluster(services, CALLER)
    assert found.health_state is ClusterState.HEALTHY
    assert found.node1
    assert found.node1.runtime
    assert found.node1.runtime.placement is None
    active = await get_active(services, CALLER)
    assert (active.ha, active.placement) == (ip("127.83.2.11"), None)
    for kind in LISTS:
        assert await listed(services, kind) == []


async def listed(services: Services, kind: str) -> list[Any]:
    found: list[Any] = await handlers()[f"com.vmware.vcenter.{kind}.list"](services, CALLER)
    return found
