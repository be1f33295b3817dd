"""An unreadable value in the store: everything else in the cluster still works."""

import pytest
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.scenes import CALLER, ClusterScenario

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import ConfigState, ModeClusterMode
from openvcha.cluster.findings import health
from openvcha.daemon.unreadable_records import RecordInspection, set_aside
from openvcha.operations.mode import set_mode
from openvcha.operations.reads import get_cluster, get_operations
from openvcha.store import keys

pytestmark = SIMULATED

BROKEN = b'{"\xff'
ELSEWHERE = [
    keys.EVENTS_MEMORY,
    keys.task("abc"),
    keys.user("carla"),
    keys.join_token("passive"),
    keys.node_facts("vcha-2"),
    keys.base_backup_report("vcha-2"),
    keys.PATRONI_FAILOVER,
    keys.PATRONI_FAILSAFE,
    keys.PATRONI_SYNC,
]


@pytest.mark.parametrize("key", ELSEWHERE)
async def test_the_cluster_is_told_with_one_warning_more(scene: ClusterScenario, key: str) -> None:
    """The warning names the key and the command, and disappears with the value."""
    await scene.healthy()
    services = scene.process().services
    scan = RecordInspection(services.store, services.observer.note_unreadable).scan
    await services.store.put(key, BROKEN)
    await scan()
    seen = await services.observe()
    assert seen.unreadable == (key,)
    (told,) = [f for f in health.assess(seen).findings if f.key == f"record.unreadable:{key}"]
    assert key in told.condition.error.default_message
    assert told.condition.recommendation
    assert f"set-aside DIRECTORY {key}" in told.condition.recommendation.default_message
    assert (await get_cluster(services, CALLER)).config_state is ConfigState.CONFIGURED
    assert (await get_operations(services, CALLER)) is not None
    await services.store.delete(key)
    await scan()
    assert (await services.observe()).unreadable == ()


async def test_an_unreadable_task_that_runs_makes_the_cluster_busy_until_set_aside(
    scene: ClusterScenario,
) -> None:
    """Other operations are refused with that task's name; observation still works."""
    await scene.healthy()
    services = scene.process().services
    key = keys.task("abc")
    await services.store.put(keys.OPERATION, b"abc")
    await services.store.put(key, BROKEN)
    assert (await services.observe()).running == ("unreadable.task", "abc")
    with pytest.raises(ApiError) as refused:
        await set_mode(services, CALLER, ModeClusterMode.MAINTENANCE)
    assert refused.value.error_type is ErrorType.RESOURCE_BUSY
    assert "abc" in refused.value.messages[0].default_message
    await set_aside(services.store, key, by="me", now=services.journal.clock())
    assert (await services.observe()).running is None
    await set_mode(services, CALLER, ModeClusterMode.MAINTENANCE)
