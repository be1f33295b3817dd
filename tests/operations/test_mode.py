"""A mode change through any failure: all or nothing, and no write is lost."""

import asyncio

import pytest
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import CrashPoint
from tests.support.simulated.scenes import CALLER, ClusterScenario

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import ClusterMode, ClusterState, ModeClusterMode, TaskStatus
from openvcha.cluster import mode_settings, modes
from openvcha.cluster.findings import health
from openvcha.operations.mode import set_mode
from openvcha.operations.reads import get_cluster, get_mode
from openvcha.store import keys

pytestmark = SIMULATED

ENABLED, DISABLED = ModeClusterMode.ENABLED, ModeClusterMode.DISABLED
MAINTENANCE = ModeClusterMode.MAINTENANCE
ACTIVE, PASSIVE = "vcha-1-old", "vcha-2-old"
PREFIX = "com.vmware.vcenter.vcha."
LONG_TTL = 60
"""Much longer than at first, and than the shortened waits. Each second of it is ten polls."""
# From ENABLED through the named modes; the last one is the change under test.
WAYS = [
    (MAINTENANCE,),
    (DISABLED,),
    (MAINTENANCE, DISABLED),
    (MAINTENANCE, ENABLED),
    (DISABLED, ENABLED),
]
ways = pytest.mark.parametrize("way", WAYS, ids="-".join)


async def begin(scene: ClusterScenario, way: tuple[ModeClusterMode, ...]) -> ClusterMode:
    """Walk up to the last change, start it, and return the mode before it."""
    await scene.healthy()
    for mode in way[:-1]:
        await scene.set_mode(mode)
        await scene.carry()
        await validate(scene, mode)
    before = (await scene.world.config()).mode
    await scene.set_mode(way[-1])
    return before


async def validate(
    scene: ClusterScenario, mode: ModeClusterMode, status: TaskStatus = TaskStatus.SUCCEEDED
) -> None:
    """Check that mode, settings and nodes agree, HEALTHY, and that no write was lost."""
    await scene.validate(status)
    wanted = ClusterMode(mode.value)
    async with asyncio.timeout(60):
        while not await _settled(scene, wanted):  # noqa: ASYNC110 - the world's state
            await asyncio.sleep(0.1)
    assert (await scene.world.config()).mode is wanted
    assert await mode_settings.requested(scene.world.store) == modes.SETTINGS[wanted]
    seen = await scene.process().services.observe()
    assert health.assess(seen).state is ClusterState.HEALTHY
    assert scene.world.violations == []


async def _settled(scene: ClusterScenario, mode: ClusterMode) -> bool:
    told = await mode_settings.effective(scene.world.store)
    standby = scene.world.machine(PASSIVE if scene.world.leads == ACTIVE else ACTIVE)
    if mode is ClusterMode.DISABLED:
        placed = standby.postgres == "stopped" and not await scene.world.standbys()
    else:
        placed = standby.postgres == "streaming" and bool(await scene.world.standbys())
    return placed and set(told.values()) == {modes.SETTINGS[mode]}


async def reasons(scene: ClusterScenario) -> list[str]:
    error = (await scene.record()).error
    assert error is not None
    return [text.id.removeprefix(PREFIX) for text in error.to_error().messages]


@ways
async def test_each_change_is_really_made(
    scene: ClusterScenario, way: tuple[ModeClusterMode, ...]
) -> None:
    """With the mode's full effect, while writes go on."""
    await begin(scene, way)
    before = scene.world.acknowledged
    await scene.carry()
    await validate(scene, way[-1])
    assert scene.world.acknowledged > before
    assert (await get_mode(scene.process().services, CALLER)).mode is way[-1]


@ways
@pytest.mark.usefixtures("scene")
async def test_killed_at_any_moment_it_goes_on_to_its_end(way: tuple[ModeClusterMode, ...]) -> None:
    """Whatever the process had just done, its successor finds it and finishes."""
    dies_at, finished = 1, False
    while not finished:
        again = ClusterScenario()
        await begin(again, way)
        life = CrashPoint(dies_at, after=True)
        await again.carry(again.process(life))
        finished = not life.died.is_set()
        if not finished:
            await again.carry()
        await validate(again, way[-1])
        await again.end()
        dies_at += 1
    assert dies_at > 8


@ways
@pytest.mark.usefixtures("scene")
async def test_the_active_lost_at_any_moment_costs_no_acknowledged_write(
    way: tuple[ModeClusterMode, ...],
) -> None:
    """The passive takes over if it may, otherwise the active comes back; then the task ends.

    A change that had not begun may then be refused because of the lost node.
    """
    dies_at, finished, outcomes = 1, False, set()
    while not finished:
        again = ClusterScenario()
        before = await begin(again, way)
        life = CrashPoint(dies_at)
        await again.carry(again.process(life))
        finished = not life.died.is_set()
        if not finished:
            paused = keys.PAUSE in again.world.going_by[PASSIVE]
            taken_over = await again.world.lose_leader()
            outcomes.add(taken_over)
            assert not (taken_over and paused)
            again.world.power_on(again.world.machine(ACTIVE).identity.vm)
            await again.primary()
            await again.carry()
        record = await again.record()
        if record.status is TaskStatus.FAILED:
            assert "mode.unhealthy" in await reasons(again)
            assert "checked" not in record.state
            await validate(again, ModeClusterMode(before.value), TaskStatus.FAILED)
        else:
            await validate(again, way[-1])
        await again.end()
        dies_at += 1
    assert False in outcomes


@ways
@pytest.mark.usefixtures("scene")
async def test_canceled_in_any_step_it_leaves_the_mode_as_it_was(
    way: tuple[ModeClusterMode, ...],
) -> None:
    """Settings are restored in reverse order; the standby too."""
    steps = [
        f"{name.removeprefix('openvcha_')}.{'on' if value else 'off'}"
        for name, value in modes.setting_changes(*_ends(way))
    ]
    for step in steps:
        again = ClusterScenario()
        before = await begin(again, way)
        carrying = await again.until(step)
        await again.journal.request_cancel(again.task)
        await carrying
        assert (await reasons(again))[0] == "task.canceled"
        await validate(again, ModeClusterMode(before.value), TaskStatus.FAILED)
        await again.end()


def _ends(way: tuple[ModeClusterMode, ...]) -> tuple[ClusterMode, ClusterMode]:
    old = way[-2] if len(way) > 1 else ENABLED
    return ClusterMode(old.value), ClusterMode(way[-1].value)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.usefixtures("scene")
async def test_killed_while_it_is_undone_it_is_undone_all_the_same(
    after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The passive does not come back: DISABLED was and stays the mode, at every crash point."""
    monkeypatch.setattr("openvcha.operations.mode.SYNC_SECONDS", 0.5)
    dies_at, finished = 1, False
    while not finished:
        again = ClusterScenario()
        await again.healthy()
        await again.set_mode(DISABLED)
        await again.carry()
        again.world.faults.add("never streams")
        await again.set_mode(ENABLED)
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        finished = not life.died.is_set()
        if not finished:
            await again.carry()
        assert (await reasons(again))[1] == "progress.mode.sync"
        await validate(again, DISABLED, TaskStatus.FAILED)
        await again.end()
        dies_at += 1
    assert dies_at > 8


@pytest.mark.usefixtures("scene")
async def test_a_patroni_that_lives_must_go_by_a_setting_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise it could take over from an active that relies on no takeover; also on a resume."""
    monkeypatch.setattr("openvcha.operations.mode.EFFECT_SECONDS", 2.0)
    dies_at, finished = 1, False
    while not finished:
        again = ClusterScenario()
        await again.healthy()
        again.world.faults.add("settings are not heard")
        await again.set_mode(MAINTENANCE)
        life = CrashPoint(dies_at, after=True)
        await again.carry(again.process(life))
        finished = not life.died.is_set()
        if not finished:
            await again.carry()
        assert (await reasons(again))[1] == "progress.mode"
        assert (await again.record()).step == "pause.on", "the next one was not to begin"
        assert await mode_settings.requested(again.world.store) == frozenset()
        assert (await again.world.config()).mode is ClusterMode.ENABLED
        await again.end()
        dies_at += 1


async def test_a_standby_that_does_not_stop_fails_the_change(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DISABLED promises that it is down; the mode does not change."""
    monkeypatch.setattr("openvcha.operations.mode.STOP_SECONDS", 5.0)
    await scene.healthy()
    scene.world.faults.add("never stops")
    await scene.set_mode(DISABLED)
    await scene.carry()
    assert (await reasons(scene))[1] == "progress.mode.stop"
    await validate(scene, ENABLED, TaskStatus.FAILED)


@pytest.mark.parametrize(
    ("fault", "wanted", "reason"),
    [
        ("settings are not heard", MAINTENANCE, "progress.mode"),
        ("never stops", DISABLED, "progress.mode.stop"),
    ],
)
async def test_a_change_waits_longer_where_the_leader_key_lives_longer(
    scene: ClusterScenario,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    wanted: ModeClusterMode,
    reason: str,
) -> None:
    """A silent member's key expires by Patroni's ttl, whatever the ttl was at first."""
    monkeypatch.setattr("openvcha.operations.mode.EFFECT_SECONDS", 2.0)
    monkeypatch.setattr("openvcha.operations.mode.STOP_SECONDS", 5.0)
    await scene.healthy()
    await mode_settings.record(scene.world.store).update(lambda fields: fields | {"ttl": LONG_TTL})
    scene.world.faults.add(fault)
    began = asyncio.get_running_loop().time()
    await scene.set_mode(wanted)
    await scene.carry()
    assert (await reasons(scene))[1] == reason
    assert asyncio.get_running_loop().time() - began >= LONG_TTL


async def test_disabled_is_reached_without_the_passive(scene: ClusterScenario) -> None:
    """A lost standby is down; when its node starts again, PostgreSQL stays down."""
    await scene.cluster()
    await scene.set_mode(DISABLED)
    await scene.carry()
    assert (await scene.record()).status is TaskStatus.SUCCEEDED
    scene.world.power_on(scene.world.machine(PASSIVE).identity.vm)
    await asyncio.sleep(5)
    await validate(scene, DISABLED)


@pytest.mark.parametrize(
    ("way", "kind", "reason"),
    [
        ((ENABLED,), ErrorType.ALREADY_IN_DESIRED_STATE, "mode.same"),
        ((DISABLED, MAINTENANCE), ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, "mode.change.never"),
    ],
)
async def test_what_is_not_allowed_makes_no_task(
    scene: ClusterScenario, way: tuple[ModeClusterMode, ...], kind: ErrorType, reason: str
) -> None:
    """Refused at once, with the reason."""
    with pytest.raises(ApiError) as caught:
        await begin(scene, way)
    assert caught.value.error_type is kind
    assert caught.value.messages[0].id == PREFIX + reason
    assert await scene.world.store.get(keys.OPERATION) is None


async def test_while_another_operation_runs_it_is_busy(scene: ClusterScenario) -> None:
    """One change at a time; the refusal names it."""
    await scene.cluster()
    await scene.redeploy()
    with pytest.raises(ApiError) as caught:
        await set_mode(scene.process().services, CALLER, DISABLED)
    assert caught.value.error_type is ErrorType.RESOURCE_BUSY


async def test_what_has_become_wrong_before_it_began_changes_nothing(
    scene: ClusterScenario,
) -> None:
    """The task repeats the checks of the call."""
    await scene.healthy()
    await scene.set_mode(MAINTENANCE)
    scene.world.kill("vcha-3-old")
    await scene.carry()
    assert "mode.unhealthy" in await reasons(scene)
    assert await mode_settings.requested(scene.world.store) == frozenset()


async def test_on_the_way_the_cluster_claims_no_automatic_failover(scene: ClusterScenario) -> None:
    """The old mode stays until the end, but what is allowed reflects the current state."""
    await scene.healthy()
    await scene.set_mode(DISABLED)
    await scene.die_in("stop")
    info = await get_cluster(scene.process().services, CALLER)
    assert info.mode is ClusterMode.ENABLED
    assert info.health_state is ClusterState.DEGRADED
    assert info.auto_failover_allowed is False


@pytest.mark.parametrize("mode", [MAINTENANCE, DISABLED])
async def test_a_lost_passive_is_replaced_in_any_mode(
    scene: ClusterScenario, mode: ModeClusterMode
) -> None:
    """In DISABLED the new one streams once, to be known as good, and is then stopped."""
    await scene.healthy()
    await scene.set_mode(mode)
    await scene.carry()
    scene.world.kill(PASSIVE)
    await asyncio.sleep(2)
    await scene.redeploy()
    await scene.carry()
    await scene.validate_renewed()
    new = next(m.name for m in scene.world.members if m.name.startswith("vcha-new"))
    async with asyncio.timeout(60):
        while (scene.world.machine(new).postgres == "stopped") is not (mode is DISABLED):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.1)


async def test_a_passive_that_is_only_stopped_is_not_replaced(scene: ClusterScenario) -> None:
    """The mode stopped it: its copy is good."""
    await scene.healthy()
    await scene.set_mode(DISABLED)
    await scene.carry()
    with pytest.raises(ApiError) as caught:
        await scene.redeploy()
    assert caught.value.messages[0].id == PREFIX + "passive.detached"
