"""A failover by hand through any failure: no acknowledged write is lost, and the task ends."""

import asyncio
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import CrashPoint
from tests.support.simulated.observations import ip
from tests.support.simulated.scenes import CALLER, ClusterScenario

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import ClusterMode, TaskStatus
from openvcha.cluster.config import cluster_record
from openvcha.node.postgres.diagnosis.replay import Holder, Replay, holder
from openvcha.operations.failover import (
    CHECKPOINT_SECONDS,
    REPLAY_SECONDS,
    SETTLE_SECONDS,
    SWITCH_SECONDS,
    behind,
    fail_over,
)
from openvcha.store import keys
from openvcha.store.patroni.state import parse_sync

pytestmark = SIMULATED

OLD = "vcha-1-old"
NEW = "vcha-2-old"
WITNESS = "vcha-3-old"
PREFIX = "com.vmware.vcenter.vcha."
WAYS = pytest.mark.parametrize("planned", [True, False])


async def whole(scene: ClusterScenario) -> None:
    """Begin with a healthy cluster of three."""
    await scene.cluster()
    scene.world.power_on(scene.world.machine(NEW).identity.vm)
    await scene.in_sync(NEW)


async def promise(scene: ClusterScenario, *, planned: bool) -> None:
    scene.task = await fail_over(scene.process().services, CALLER, planned)


async def begin(scene: ClusterScenario, *, planned: bool) -> None:
    await whole(scene)
    await promise(scene, planned=planned)


async def reasons(scene: ClusterScenario) -> list[str]:
    error = (await scene.record()).error
    assert error is not None
    return [text.id.removeprefix(PREFIX) for text in error.to_error().messages]


async def wish(scene: ClusterScenario) -> bytes:
    found = await scene.world.store.get(keys.PATRONI_FAILOVER)
    return found.value if found else b"{}"


async def validate_switched(scene: ClusterScenario) -> None:
    """Check that the roles are swapped and that another failover is possible."""
    await scene.validate(TaskStatus.SUCCEEDED)
    assert await scene.world.leader() == NEW
    assert await scene.world.standbys() == {OLD}
    assert await wish(scene) == b"{}"


async def validate_unchanged(scene: ClusterScenario) -> None:
    """Check that a failed failover changed nothing, and left nothing that would."""
    await scene.validate(TaskStatus.FAILED)
    assert await scene.world.leader() == OLD
    assert scene.world.machine(OLD).postgres == "primary"
    assert await wish(scene) == b"{}"
    await asyncio.sleep(60)
    assert await scene.world.leader() == OLD


async def test_planned_everything_is_written_out_before_the_switch(scene: ClusterScenario) -> None:
    """First on the active, so that the passive has a record to compare with."""
    await begin(scene, planned=True)
    await scene.carry_along()
    await validate_switched(scene)
    assert scene.world.checkpoints == [OLD, NEW]


async def test_forced_nothing_is_waited_for(scene: ClusterScenario) -> None:
    """The passive already has every acknowledged write."""
    await begin(scene, planned=False)
    scene.world.faults.add("no checkpoint")
    begun = asyncio.get_running_loop().time()
    await scene.carry_along()
    await validate_switched(scene)
    assert asyncio.get_running_loop().time() - begun < 3


async def test_and_back_again(scene: ClusterScenario) -> None:
    """The former active is as good a passive as any."""
    await begin(scene, planned=True)
    await scene.carry_along()
    await promise(scene, planned=False)
    await scene.carry_along()
    await scene.validate(TaskStatus.SUCCEEDED)
    assert await scene.world.leader() == OLD
    assert await scene.world.standbys() == {NEW}


@WAYS
@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_moment_it_goes_on_to_its_end(
    scene: ClusterScenario, planned: bool, after: bool
) -> None:
    """Its successor finds whatever was done; no failover is done twice."""
    await begin(scene, planned=planned)
    life = CrashPoint()
    await scene.carry_along(life)
    assert life.moments > 10
    for dies_at in range(1, life.moments + 1):
        again = ClusterScenario()
        await begin(again, planned=planned)
        dying = CrashPoint(dies_at, after=after)
        await again.carry_along(dying)
        assert dying.died.is_set()
        await again.carry_along()
        await validate_switched(again)
        await again.end()


@WAYS
@pytest.mark.parametrize("after", [False, True])
async def test_the_active_lost_at_any_moment_costs_no_acknowledged_write(
    scene: ClusterScenario, planned: bool, after: bool
) -> None:
    """The passive takes over either way; the task ends, and says how it ended.

    If the new active is lost after the switch, the former one takes over again.
    """
    await begin(scene, planned=planned)
    life = CrashPoint()
    await scene.carry_along(life)
    succeeded = 0
    for dies_at in range(1, life.moments + 1):
        again = ClusterScenario()
        await begin(again, planned=planned)
        dying = CrashPoint(dies_at, after=after)
        await again.carry_along(dying)
        assert dying.died.is_set()
        lost = await again.world.leader() or again.world.leads
        if await again.world.lose_leader():
            await again.carry_along()
            record = await again.record()
            assert record.finished
            if lost == OLD and "to" in record.state:
                assert record.status is TaskStatus.SUCCEEDED
                succeeded += 1
        assert again.world.violations == []
        await again.end()
    assert succeeded > 1


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        ("mode", "failover.mode.disabled"),
        (NEW, "failover.node.lost"),
        (WITNESS, "failover.node.lost"),
        ("sync", "failover.passive.not.ready"),
    ],
)
@WAYS
async def test_refused_with_its_reason_before_there_is_a_task(
    scene: ClusterScenario, planned: bool, lost: str, reason: str
) -> None:
    """And again by the task itself, when the reason arises in between."""
    await begin(scene, planned=planned)
    if lost == "mode":
        await cluster_record(scene.world.store).update(
            lambda config: replace(config, mode=ClusterMode.DISABLED)
        )
    elif lost == "sync":
        scene.world.faults.add("never in sync")
        await asyncio.sleep(2)
    else:
        scene.world.kill(lost)
    await scene.carry()
    assert (await reasons(scene))[-1] == reason
    await validate_unchanged(scene)
    with pytest.raises(ApiError) as refusal:
        await promise(scene, planned=planned)
    assert refusal.value.error_type is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE
    assert [text.id.removeprefix(PREFIX) for text in refusal.value.messages] == [reason]
    assert await scene.world.store.get(keys.OPERATION) is None


@WAYS
async def test_a_second_one_is_told_of_the_first(scene: ClusterScenario, planned: bool) -> None:
    """Only one operation runs at a time."""
    await begin(scene, planned=planned)
    with pytest.raises(ApiError) as refusal:
        await promise(scene, planned=planned)
    assert refusal.value.error_type is ErrorType.RESOURCE_BUSY
    await scene.carry_along()
    await validate_switched(scene)


async def test_the_passive_lost_while_all_is_written_out(scene: ClusterScenario) -> None:
    """Then no node can take over."""
    await begin(scene, planned=True)
    await scene.die_in("switch")
    scene.world.kill(NEW)
    await scene.carry()
    assert "failover.node.lost" in await reasons(scene)
    await validate_unchanged(scene)


async def test_what_cannot_be_written_out_is_no_planned_failover(scene: ClusterScenario) -> None:
    """The disk may be full: better found before the active stops."""
    await begin(scene, planned=True)
    scene.world.faults.add("no checkpoint")
    await scene.carry()
    assert "failover.unprepared" in await reasons(scene)
    await validate_unchanged(scene)


@pytest.mark.parametrize("node", [OLD, NEW])
async def test_a_checkpoint_that_never_ends_ends_the_task(
    scene: ClusterScenario, node: str
) -> None:
    """The task holds the cluster's only operation."""
    await begin(scene, planned=True)
    scene.world.faults.add(f"{node} hangs in a checkpoint")
    async with asyncio.timeout(2 * CHECKPOINT_SECONDS):
        await scene.carry()
    assert "failover.unprepared" in await reasons(scene)
    await validate_unchanged(scene)


async def test_canceled_before_the_switch_nothing_happens(scene: ClusterScenario) -> None:
    """The last moment at which it can be canceled."""
    await begin(scene, planned=True)
    scene.world.faults.add("no checkpoint")
    carrying = await scene.until("prepare")
    await scene.journal.request_cancel(scene.task)
    await carrying
    assert (await reasons(scene))[0] == "task.canceled"
    await validate_unchanged(scene)


READER = Holder(4711, "app", "report", datetime(2026, 11, 26, 12, tzinfo=UTC))


async def test_planned_a_reader_that_holds_replay_up_is_waited_for(scene: ClusterScenario) -> None:
    """The passive must replay everything it has received before the active is stopped."""
    await begin(scene, planned=True)
    scene.world.holders = (READER,)
    carrying = asyncio.create_task(scene.carry_along())
    await asyncio.sleep(REPLAY_SECONDS - 5)
    assert scene.world.machine(OLD).postgres == "primary"
    progress = (await scene.record()).progress
    assert progress is not None
    assert "4711" in progress.message.default_message
    scene.world.holders = ()
    await carrying
    await validate_switched(scene)


async def test_planned_a_reader_that_never_ends_is_named_and_nothing_is_stopped(
    scene: ClusterScenario,
) -> None:
    """With everything a person needs to find the session, and how to go on without it."""
    await begin(scene, planned=True)
    scene.world.holders = (READER,)
    await scene.carry_along()
    assert (await reasons(scene)) == ["wait.timeout", "failover.replay.held"]
    error = (await scene.record()).error
    assert error is not None
    text = error.to_error().messages[1].default_message
    for part in ("4711", "app", "report", "2026-11-26 12:00:00 UTC", "planned=false"):
        assert part in text
    await validate_unchanged(scene)


async def test_forced_no_reader_is_waited_for(scene: ClusterScenario) -> None:
    """The node that takes the leader key ends the sessions: see node.patroni.patches.takeover."""
    await begin(scene, planned=False)
    scene.world.holders = (READER,)
    await scene.carry_along()
    await validate_switched(scene)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (Replay(9, standby=True, paused=False, delay="0"), "progress.failover.replay"),
        (Replay(9, standby=True, paused=False, delay="5min"), "failover.replay.delayed"),
        (Replay(9, True, paused=False, delay="5min", holders=(READER,)), "failover.replay.held"),
        (Replay(10, True, paused=False, delay="5min", holders=(READER,)), None),
        (Replay(0, standby=False, paused=False, delay="0"), None),
    ],
)
def test_what_is_left_to_replay_is_said_with_what_holds_it_up(
    seen: Replay, reason: str | None
) -> None:
    """A session before a setting, a setting before a mere wait."""
    found = behind(seen, "vcha-2", 10)
    assert (found.id.removeprefix(PREFIX) if found else None) == reason


def test_what_clients_call_themselves_is_bounded_and_printable() -> None:
    """It is shown to others."""
    found = holder((1, None, "\x1b[31m" + 100 * "x", None))
    assert (found.user, found.began) == ("?", "?")
    assert found.application == "?[31m" + 59 * "x"


async def test_a_switch_that_patroni_refused_is_asked_for_again(scene: ClusterScenario) -> None:
    """Patroni refuses when the passive did not answer at once."""
    await begin(scene, planned=True)
    scene.world.faults.add("refuses once")
    await scene.carry_along()
    await validate_switched(scene)


async def test_a_switch_that_never_comes_is_taken_back(scene: ClusterScenario) -> None:
    """Nothing may happen after the task has ended."""
    await begin(scene, planned=True)
    scene.world.faults.add("refuses")
    begun = asyncio.get_running_loop().time()
    await scene.carry()
    assert asyncio.get_running_loop().time() - begun < SWITCH_SECONDS + 10
    assert (await reasons(scene))[:2] == ["wait.timeout", "progress.failover.switch"]
    await validate_unchanged(scene)


async def test_forced_to_a_node_that_never_takes_writes_the_lead_is_given_back(
    scene: ClusterScenario,
) -> None:
    """``/sync`` still names the former active: otherwise no node might ever lead."""
    await begin(scene, planned=False)
    scene.world.faults.add("never promotes")
    await scene.carry()
    assert (await reasons(scene))[0] == "wait.timeout"
    assert await wish(scene) == b"{}"
    found = await scene.world.store.get(keys.PATRONI_SYNC)
    assert found
    assert parse_sync(found.value).leader == OLD
    assert await scene.world.leader() != NEW
    scene.world.kill(NEW)
    scene.world.heals = True
    await asyncio.sleep(60)
    await scene.validate(TaskStatus.FAILED)
    assert await scene.world.leader() == OLD
    assert scene.world.machine(OLD).postgres == "primary"


@WAYS
async def test_a_former_active_that_never_follows_fails_nothing(
    scene: ClusterScenario, planned: bool
) -> None:
    """The failover has succeeded; health reports the rest."""
    await begin(scene, planned=planned)
    scene.world.faults.add("never follows")
    begun = asyncio.get_running_loop().time()
    await scene.carry_along()
    assert asyncio.get_running_loop().time() - begun < SETTLE_SECONDS + 10
    await scene.validate(TaskStatus.SUCCEEDED)
    assert await scene.world.leader() == NEW


async def test_in_maintenance_it_is_left_to_patroni(scene: ClusterScenario) -> None:
    """While paused, Patroni would not stop a former active that has only lost the leader key."""
    await whole(scene)
    await cluster_record(scene.world.store).update(
        lambda config: replace(config, mode=ClusterMode.MAINTENANCE)
    )
    await promise(scene, planned=False)
    scene.world.faults.add("refuses")
    carrying = await scene.until("switch")
    await asyncio.sleep(2)
    assert await scene.world.leader() == OLD
    scene.world.faults.discard("refuses")
    carrying.cancel()
    await asyncio.wait([carrying])
    await scene.carry_along()
    await validate_switched(scene)


# --- from a member that was removed while it was away, and leads


async def led_by_a_stranger(scene: ClusterScenario) -> None:
    """Begin with a leader that is not a node any more: its replacement has no data yet.

    The store names the other data node, which has every acknowledged row.
    """
    await whole(scene)
    world = scene.world
    old, *others = (await world.config()).nodes
    instead = replace(old, member="vcha-4-new", name="vcha-4", ha_ip=ip("127.83.2.14"))
    await cluster_record(world.store).update(
        lambda config: replace(config, nodes=(instead, *others))
    )
    world.remove_member(world.member(OLD).id)


async def test_forced_the_lead_is_taken_from_a_stranger(scene: ClusterScenario) -> None:
    """To the node that has every row, not just to any that does not lead."""
    await led_by_a_stranger(scene)
    await promise(scene, planned=False)
    await scene.carry_along()
    await scene.validate(TaskStatus.SUCCEEDED)
    assert await scene.world.leader() == NEW
    assert scene.world.machine(NEW).postgres == "primary"


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_moment_it_takes_the_lead_from_the_stranger(
    scene: ClusterScenario, after: bool
) -> None:
    """Either process can continue the task."""
    await led_by_a_stranger(scene)
    await promise(scene, planned=False)
    life = CrashPoint()
    await scene.carry_along(life)
    assert life.moments > 5
    for dies_at in range(1, life.moments + 1):
        again = ClusterScenario()
        await led_by_a_stranger(again)
        await promise(again, planned=False)
        dying = CrashPoint(dies_at, after=after)
        await again.carry_along(dying)
        assert dying.died.is_set()
        await again.carry_along()
        await again.validate(TaskStatus.SUCCEEDED)
        assert await again.world.leader() == NEW
        await again.end()


async def refused(scene: ClusterScenario, *, planned: bool) -> str:
    with pytest.raises(ApiError) as raised:
        await promise(scene, planned=planned)
    assert raised.value.error_type is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE
    assert await scene.world.store.get(keys.OPERATION) is None
    return raised.value.messages[0].id.removeprefix(PREFIX)


async def test_a_stranger_is_asked_to_prepare_nothing(scene: ClusterScenario) -> None:
    """A planned failover would wait for the stranger's checkpoint."""
    await led_by_a_stranger(scene)
    assert await refused(scene, planned=True) == "failover.stranger.planned"


async def test_from_a_stranger_nothing_is_taken_that_may_cost_rows(scene: ClusterScenario) -> None:
    """The refusal says that rows may be lost, and which command says how many."""
    await led_by_a_stranger(scene)
    scene.world.faults.add("never in sync")
    async with asyncio.timeout(60):
        while await scene.world.standbys():  # noqa: ASYNC110 - Patroni's state
            await asyncio.sleep(0.1)
    assert await refused(scene, planned=False) == "failover.stranger.unproven"


async def test_what_the_stranger_acknowledged_alone_meanwhile_ends_the_task(
    scene: ClusterScenario,
) -> None:
    """The state when the leader key is taken counts: the task waits, and fails without a change."""
    await led_by_a_stranger(scene)
    await promise(scene, planned=False)
    scene.world.faults.add("never in sync")
    async with asyncio.timeout(60):
        while await scene.world.standbys():  # noqa: ASYNC110 - Patroni's state
            await asyncio.sleep(0.1)
    await scene.carry()
    assert "failover.stranger.unproven" in await reasons(scene)
    assert await scene.world.leader() == OLD
    assert scene.world.violations == []


async def test_a_pause_that_begins_after_the_check_keeps_the_stranger_s_lead(
    scene: ClusterScenario,
) -> None:
    """From then on it may acknowledge alone, while /sync still names the other."""
    await led_by_a_stranger(scene)
    await promise(scene, planned=False)
    life = CrashPoint()
    carrying = await scene.until("switch", scene.process(life))
    life.died.set()
    await carrying
    assert await scene.world.leader() == OLD
    await cluster_record(scene.world.store).update(
        lambda config: replace(config, mode=ClusterMode.MAINTENANCE)
    )
    await scene.carry()
    assert "failover.stranger.unproven" in await reasons(scene)
    assert await scene.world.leader() == OLD
    assert scene.world.violations == []
