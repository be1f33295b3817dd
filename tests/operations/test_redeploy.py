"""A redeploy through any failure: nothing is lost or left behind, and the task ends."""

import asyncio
import dataclasses
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import SWEPT, CrashPoint
from tests.support.simulated.observations import FACTS, ip
from tests.support.simulated.process import SeenPostgres
from tests.support.simulated.redeploy import PREFIX, begin, message_ids, reasons
from tests.support.simulated.scenes import CALLER, NEW, ClusterScenario, placement
from tests.support.simulated.world.machines import BROKEN

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import (
    NodeState,
    PassiveCheckSpec,
    PassiveRedeploySpec,
    TaskProgress,
    TaskStatus,
    VmPowerState,
    WitnessCheckResult,
    WitnessCheckSpec,
)
from openvcha.cluster.config import NodeKind
from openvcha.node.identity import Identity
from openvcha.node.postgres.diagnosis.missing_files import MissingFile
from openvcha.node.postgres.standby_data.pg_basebackup import ServerError
from openvcha.operations.reads import get_cluster
from openvcha.operations.redeploy import check_passive, check_witness, redeploy_passive
from openvcha.operations.steps.base_backup import STALL_SECONDS
from openvcha.operations.steps.check_settings import check_settings
from openvcha.operations.steps.node_vms import DELETE_SECONDS
from openvcha.operations.steps.streaming import STREAMING_SECONDS
from openvcha.operations.steps.votes.required_votes import OWN_SECONDS
from openvcha.store import keys
from openvcha.store.base_backup_reports import BaseBackupState
from openvcha.store.node_facts import Override, PostgresFacts
from openvcha.tasks.record import to_info

pytestmark = SIMULATED

OLD = "vcha-2-old"
ACTIVE = "vcha-1-old"
WITNESS = "vcha-3-old"


def new_member(scene: ClusterScenario) -> str:
    return next(m.name for m in scene.world.members if m.name.startswith(NEW))


async def moments(scene: ClusterScenario) -> int:
    """Return the number of moments of an undisturbed process."""
    await begin(scene)
    life = CrashPoint()
    await scene.carry(scene.process(life))
    await scene.validate_renewed()
    await scene.end()
    return life.moments


async def test_a_lost_passive_is_replaced(scene: ClusterScenario) -> None:
    """The main task, at the old node's address."""
    await begin(scene)
    await scene.carry()
    await scene.validate_renewed()


VITAL = Override(
    name="synchronous_standby_names", value="", file="/a/postgresql.auto.conf", vital=True
)
SET = PostgresFacts(
    overrides=(VITAL, replace(VITAL, name="wal_keep_size", vital=False)),
    pending_restart=("shared_preload_libraries",),
    missing_libraries=("timescaledb",),
    slots=("barman",),
    collations=("shop with 2.31, here 2.36",),
)
UNINSTALLED = (MissingFile("shop", "postgis", True), MissingFile("shop", "$libdir/a", False))


async def test_what_a_copy_would_carry_along_is_checked(scene: ClusterScenario) -> None:
    """Settings that would break replication are refused with the way back, the rest is reported."""
    await scene.cluster()
    services = scene.process().services
    scene.world.survey, scene.world.missing_files = SET, UNINSTALLED
    found = await check_passive(services, CALLER, PassiveCheckSpec(placement=placement()))
    (error,) = found.errors
    assert "ALTER SYSTEM RESET synchronous_standby_names" in error.default_message
    warned = [text.id.removeprefix(PREFIX) for text in found.warnings]
    assert warned == [
        "check.setting",
        "check.pending.restart",
        "check.library.missing",
        "check.collation",
        "check.slot",
        "check.extension.missing",
        "check.function.missing",
    ]
    await scene.redeploy()
    await scene.carry()
    assert await reasons(scene) == ["check.refused", "check.setting"]
    await scene.validate_as_before()
    scene.world.survey = replace(SET, overrides=SET.overrides[1:])
    await scene.redeploy()
    await scene.carry()
    await scene.validate_renewed()


async def test_the_check_tells_what_the_redeploy_would_wait_for(scene: ClusterScenario) -> None:
    """Another operation, and a rotation, whose outcome new credentials depend on."""
    await begin(scene)
    scene.world.faults.add("never renewed")
    scene.world.machine(ACTIVE).renewing = True
    services = scene.process().services
    wanted = ["task.busy", "credentials.pending"]
    passive = await check_passive(services, CALLER, PassiveCheckSpec(placement=placement()))
    assert [text.id.removeprefix(PREFIX) for text in passive.errors] == wanted
    witness = await check_witness(services, CALLER, WitnessCheckSpec(placement=placement()))
    found = [text.id.removeprefix(PREFIX) for text in witness.errors]
    assert found == ["witness.healthy", *wanted]


async def test_a_redeploy_during_a_rotation_takes_no_vote(scene: ClusterScenario) -> None:
    """The old node keeps its vote, and a rotation that ends lets the task continue."""
    await begin(scene)
    votes = {member.name for member in scene.world.members}
    scene.world.faults.add("never renewed")
    scene.world.machine(ACTIVE).renewing = True
    await scene.carry()
    assert "credentials.pending" in await reasons(scene)
    assert "fence" not in (await scene.record()).started
    assert {member.name for member in scene.world.members} == votes
    await scene.validate_as_before()
    await scene.redeploy()
    carrying = await scene.until("check")
    await asyncio.sleep(5)
    scene.world.machine(ACTIVE).renewing = False
    await carrying
    await scene.validate_renewed()


async def test_the_witness_gets_no_copy(scene: ClusterScenario) -> None:
    """So PostgreSQL's settings do not matter to it."""
    await scene.healthy()
    scene.world.kill(WITNESS)
    scene.world.survey = SET
    spec = WitnessCheckSpec(placement=placement())
    found = await check_witness(scene.process().services, CALLER, spec)
    assert found == WitnessCheckResult(errors=(), warnings=())


async def test_settings_that_cannot_be_read_refuse_a_redeploy(scene: ClusterScenario) -> None:
    """The base backup would fail for the same reason, after the old node is gone."""
    await begin(scene)
    scene.world.faults.add("no survey")
    services = scene.process().services
    found = await check_passive(services, CALLER, PassiveCheckSpec(placement=placement()))
    assert [text.id.removeprefix(PREFIX) for text in found.errors if "silent" in text.id] == [
        "check.postgres.silent"
    ]
    await scene.carry()
    assert "check.postgres.silent" in await reasons(scene)
    assert "fence" not in (await scene.record()).started
    await scene.validate_as_before()


async def test_a_task_waits_until_the_settings_can_be_read(scene: ClusterScenario) -> None:
    """One failed look decides nothing; the reason is shown meanwhile."""
    await begin(scene)
    scene.world.faults.add("no survey")
    carrying = await scene.until("check")
    await asyncio.sleep(5)
    progress = (await scene.record()).progress
    assert progress is not None
    assert "no answer within 10 s" in progress.message.default_message
    scene.world.faults.discard("no survey")
    await carrying
    await scene.validate_renewed()


async def test_what_the_active_reported_is_shown_while_it_cannot_be_asked(
    scene: ClusterScenario,
) -> None:
    """Its own session may still be open, and knows what locks others out."""
    await scene.cluster()
    services = scene.process().services
    seen = await services.observe()
    assert seen.active is not None
    report = dataclasses.replace(seen.active.report, facts=replace(FACTS, postgres=SET))
    told = dataclasses.replace(seen.active, report=report)
    scene.world.faults.add("no survey")
    nodes = tuple(told if node is seen.active else node for node in seen.nodes)
    found = await check_settings(services, dataclasses.replace(seen, nodes=nodes), NodeKind.DATA)
    kinds = [text.id.removeprefix(PREFIX) for text in found.errors]
    assert kinds == ["check.postgres.silent", "check.setting"]


async def test_databases_that_cannot_be_asked_hide_nothing_else(scene: ClusterScenario) -> None:
    """The known settings are reported, and that the rest is unknown."""
    await scene.cluster()
    scene.world.survey = PostgresFacts(slots=("barman",))
    scene.world.faults.add("databases silent")
    services = scene.process().services
    found = await check_passive(services, CALLER, PassiveCheckSpec(placement=placement()))
    warned = [text.id.removeprefix(PREFIX) for text in found.warnings]
    assert warned == ["check.slot", "check.postgres.silent"]


BAD_FILE = ServerError("XX000", 'invalid segment number 0 in file "1259.orig"')


async def test_the_server_s_reason_of_a_failed_copy_is_final_and_told(
    scene: ClusterScenario,
) -> None:
    """The node only sees that the copy ended, and would retry for ever."""
    await begin(scene)
    scene.world.base_backup_error = BAD_FILE
    begun = asyncio.get_running_loop().time()
    await scene.carry()
    assert asyncio.get_running_loop().time() - begun < STALL_SECONDS / 10
    error = (await scene.record()).error
    assert error is not None
    assert await reasons(scene) == ["copy.failed"]
    assert BAD_FILE.message in error.to_error().messages[0].default_message
    await scene.validate_as_before()


async def test_a_reason_that_may_pass_is_shown_while_the_copy_is_tried_again(
    scene: ClusterScenario,
) -> None:
    """For example, no free walsender slot."""
    await begin(scene)
    scene.world.base_backup_error = ServerError("53300", "all places are taken")
    carrying = await scene.until("copy.passive")
    await asyncio.sleep(10)
    progress = (await scene.record()).progress
    assert progress is not None
    assert "all places are taken" in progress.message.default_message
    scene.world.base_backup_error = None
    await carrying
    await scene.validate_renewed()


async def test_the_server_s_log_is_read_once_for_each_failure_of_the_copy(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task polls far more often, and the log may be large."""
    await begin(scene)
    scene.world.base_backup_error = ServerError("53300", "all places are taken")
    attempts: list[int] = []
    read: list[datetime] = []
    report, ask = scene.world._report, SeenPostgres.base_backup_error

    async def reported(identity: Identity, state: BaseBackupState, *rest: Any, **more: Any) -> None:
        if state is BaseBackupState.FAILED:
            attempts.append(len(attempts))
        await report(identity, state, *rest, **more)

    async def asked(postgres: SeenPostgres, since: datetime) -> ServerError | None:
        read.append(since)
        return await ask(postgres, since)

    monkeypatch.setattr(scene.world, "_report", reported)
    monkeypatch.setattr(SeenPostgres, "base_backup_error", asked)
    carrying = await scene.until("copy.passive")
    await asyncio.sleep(10)
    scene.world.base_backup_error = None
    await carrying
    assert len(attempts) > 1
    assert len(read) == len(attempts)


@pytest.mark.parametrize(
    ("state", "final"),
    [
        ("XX000", True),  # a file that is not a segment
        ("XX001", True),  # a checksum
        ("42501", True),  # an unreadable file, a missing privilege
        ("53100", True),  # the disk is full
        ("58030", True),  # the disk is broken
        ("28000", True),  # authentication failed
        ("53300", False),  # too many connections
        ("57P01", False),  # terminated by an administrator
        ("57P03", False),  # starting
        ("08006", False),  # the connection is lost
        ("55006", False),  # object in use
    ],
)
def test_what_may_pass_is_told_from_what_stays(state: str, final: bool) -> None:
    """By the SQLSTATE."""
    assert ServerError(state, "").final is final


async def test_a_new_node_that_does_not_start_is_heard(scene: ClusterScenario) -> None:
    """Long before the wait for it would end; its report survives the node."""
    await begin(scene)
    scene.world.faults.add("never starts")
    begun = asyncio.get_running_loop().time()
    await scene.carry()
    assert asyncio.get_running_loop().time() - begun < STREAMING_SECONDS / 10
    error = (await scene.record()).error
    assert error is not None
    first, *lines = error.to_error().messages
    assert first.id.removeprefix(PREFIX) == "join.start.failed"
    assert BROKEN in first.default_message
    assert [line.args[1] for line in lines] == ["a", BROKEN]
    await asyncio.sleep(41)
    await scene.validate_as_before()


async def test_a_successor_at_the_old_address_is_not_taken_for_the_old_node(
    scene: ClusterScenario,
) -> None:
    """etcd and Patroni answer there long before the configuration names the new node."""
    await begin(scene)
    scene.world.faults.add("never streams")
    carrying = await scene.until("join.passive")
    while scene.world.machine(new_member(scene)).postgres == "":
        scene.world.machine(new_member(scene)).postgres = "starting"
        await asyncio.sleep(0.1)
    info = await get_cluster(scene.process().services, CALLER)
    assert info.node2 is not None
    assert info.node2.runtime is not None
    assert info.node2.runtime.state is NodeState.DOWN
    scene.world.faults.clear()
    scene.world.machine(new_member(scene)).postgres = "streaming"
    await carrying
    await scene.validate_renewed()


async def test_a_lost_passive_is_replaced_at_another_address(scene: ClusterScenario) -> None:
    """And at its own."""
    await scene.cluster()
    await scene.redeploy(PassiveRedeploySpec(placement=placement(), ha_ip=ip("127.83.2.99")))
    await scene.carry()
    await scene.validate_renewed()


@SWEPT
@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_moment_it_goes_on_to_its_end(
    scene: ClusterScenario, after: bool, stride: int
) -> None:
    """Whatever the process was doing, its successor finds it and finishes."""
    total = await moments(scene)
    assert total > 25
    for dies_at in range(1, total + 1, stride):
        again = ClusterScenario()
        await begin(again)
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        assert life.died.is_set()
        await again.carry()
        await again.validate_renewed()
        await again.end()


@SWEPT
@pytest.mark.parametrize("after", [False, True])
async def test_the_active_lost_at_any_moment_costs_no_acknowledged_write(
    scene: ClusterScenario, after: bool, stride: int
) -> None:
    """The new node takes over as soon as it may, and the task is finished from there.

    Before that no node may; the active comes back, and the task goes on where it was.
    """
    total = await moments(scene)
    outcomes = set()
    for dies_at in range(1, total + 1, stride):
        again = ClusterScenario()
        await begin(again)
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        assert life.died.is_set()
        taken_over = await again.world.lose_leader()
        outcomes.add(taken_over)
        if not taken_over:
            await asyncio.sleep(3)
            again.world.power_on(again.world.machine(ACTIVE).identity.vm)
            await again.primary()
        await again.carry()
        await again.validate_renewed()
        if taken_over:
            assert again.world.leads != ACTIVE
        await again.end()
    assert outcomes == {False, True}


@pytest.mark.parametrize("step", ["fence", "clone.passive", "copy.passive", "join.passive"])
async def test_cancelled_it_leaves_the_cluster_as_it_was(scene: ClusterScenario, step: str) -> None:
    """The half-made node is deleted; the old node's data stay; the next try succeeds."""
    await begin(scene)
    carrying = await scene.until(step)
    await scene.journal.request_cancel(scene.task)
    await carrying
    assert (await reasons(scene))[0] == "task.canceled"
    await scene.validate_as_before()
    await scene.redeploy()
    await scene.carry()
    await scene.validate_renewed()


@SWEPT
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.usefixtures("scene")
async def test_killed_while_it_is_undone_it_is_undone_all_the_same(
    after: bool, stride: int
) -> None:
    """A failure in the last waiting step: every crash point of the way back."""
    dies_at, finished = 1, False
    while not finished:
        again = ClusterScenario()
        await again.cluster()
        again.world.faults.add("copy fails")
        await again.redeploy()
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        finished = not life.died.is_set()
        if not finished:
            await again.carry()
        await again.validate_as_before()
        await again.end()
        dies_at += stride
    assert dies_at > 30


@pytest.mark.parametrize("step", ["join.passive", "commit"])
async def test_cancelled_while_the_active_is_lost_the_new_active_stays(
    scene: ClusterScenario, step: str
) -> None:
    """The new active has rows that no other node has: it is configured, not undone."""
    await begin(scene)
    await scene.die_in(step)
    await scene.in_sync(new_member(scene))
    if (await scene.record()).cancelable:
        await scene.journal.request_cancel(scene.task)
    assert await scene.world.lose_leader()
    await scene.carry()
    config = await scene.world.config()
    assert config.node(scene.world.leads) is not None
    assert scene.world.violations == []
    assert await scene.world.store.get(keys.OPERATION) is None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("etcd never starts", "progress.promote"),
        ("copy fails", "copy.failed"),
        ("copy hangs", "copy.stalled"),
        ("copy begins anew", "copy.stalled"),
        ("never streams", "progress.join.catching.up"),
        ("never in sync", "progress.join.sync"),
    ],
)
async def test_what_never_comes_is_given_up_and_taken_back(
    scene: ClusterScenario, fault: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step has a deadline; the task says what it waited for; nothing is left."""
    # Ten minutes are thousands of polls, also in a simulated world.
    monkeypatch.setattr("openvcha.operations.steps.streaming.STREAMING_SECONDS", 30.0)
    await scene.cluster()
    scene.world.faults.add(fault)
    await scene.redeploy()
    await scene.carry()
    assert reason in await reasons(scene)
    await scene.validate_as_before()


async def test_a_half_made_node_that_loses_its_power_is_started_again(
    scene: ClusterScenario,
) -> None:
    """It has no vote yet: without power it would never get one, and the step would wait."""
    await scene.cluster()
    scene.world.faults.add("etcd never starts")
    await scene.redeploy()
    carrying = await scene.until("clone.passive")
    async with asyncio.timeout(10):
        while (vm := scene.world.state.inventory.vm_by_name(NEW)) is None:  # noqa: ASYNC110 - the task's
            await asyncio.sleep(0.01)
    await asyncio.sleep(1)
    scene.world.power_off(vm.id)
    scene.world.faults.remove("etcd never starts")
    await carrying
    await scene.validate_renewed()


@pytest.mark.parametrize("step", ["clone.passive", "copy.passive", "join.passive"])
async def test_the_old_node_started_again_by_a_person_changes_nothing(
    scene: ClusterScenario, step: str
) -> None:
    """It has no vote any more and may not take over; at the end it is deleted."""
    await scene.cluster()
    await scene.redeploy(PassiveRedeploySpec(placement=placement(), ha_ip=ip("127.83.2.99")))
    carrying = await scene.until(step)
    scene.world.power_on(scene.world.machine(OLD).identity.vm)
    await carrying
    await scene.validate_renewed()


async def test_the_old_node_started_again_is_fenced_again_after_a_crash(
    scene: ClusterScenario,
) -> None:
    """A resumed task checks the actual state: the power is on, so it is cut again."""
    await begin(scene)
    await scene.die_in("copy.passive")
    scene.world.power_on(scene.world.machine(OLD).identity.vm)
    await scene.carry()
    await scene.validate_renewed()


async def test_a_new_node_not_named_yet_is_not_taken_for_the_old_one(
    scene: ClusterScenario,
) -> None:
    """At the same address, in the middle of its first start, when the process dies."""
    await scene.cluster()
    scene.world.faults.add("slow etcd")
    await scene.redeploy()
    life = CrashPoint()
    carrying = await scene.until("clone.passive", scene.process(life))
    await asyncio.sleep(2)
    assert not scene.world.members[-1].name
    life.died.set()
    await carrying
    await scene.carry()
    await scene.validate_renewed()


async def test_a_passive_that_recovered_after_the_check_is_left_alone(
    scene: ClusterScenario,
) -> None:
    """Between check and fence it came back in sync: a healthy cluster is not touched."""
    await begin(scene)
    await scene.die_in("fence")
    scene.world.power_on(scene.world.machine(OLD).identity.vm)
    await scene.in_sync(OLD)
    await scene.carry()
    assert await reasons(scene) == ["passive.healthy"]
    await scene.validate_as_before()
    assert scene.world.machine(OLD).on


async def test_a_passive_that_took_over_after_the_check_is_not_fenced(
    scene: ClusterScenario,
) -> None:
    """It leads now: the task was about another situation."""
    await begin(scene)
    await scene.die_in("fence")
    scene.world.power_on(scene.world.machine(OLD).identity.vm)
    await scene.in_sync(OLD)
    assert await scene.world.lose_leader()
    await scene.carry()
    assert (await reasons(scene))[0] == "active.is"
    await scene.validate_as_before()
    assert scene.world.machine(OLD).on


async def test_an_unreadable_report_of_the_new_node_ends_nothing(scene: ClusterScenario) -> None:
    """Any voter can write it; the task waits for what counts, as without a report."""
    await begin(scene)
    scene.world.faults.add("never streams")
    carrying = await scene.until("join.passive")
    member = new_member(scene)
    await scene.world.store.put(keys.node_facts(member), b'{"\xff')
    await asyncio.sleep(3)
    assert not carrying.done()
    scene.world.faults.discard("never streams")
    scene.world.machine(member).postgres = "streaming"
    await carrying
    await scene.world.store.delete(keys.node_facts(member))  # as if the node had rewritten it
    await scene.validate_renewed()


async def test_what_an_earlier_failure_left_in_etcd_is_not_in_the_way(
    scene: ClusterScenario,
) -> None:
    """A dead learner at the very same address, which no undo could remove."""
    await scene.cluster()
    scene.world.kill(OLD)
    scene.world.remove_member(scene.world.member(OLD).id)
    scene.world.add_member("https://127.83.2.12:2380")
    stranger = scene.world.members[-1]
    scene.world.rename(stranger, "half-made")
    await scene.redeploy()
    await scene.carry()
    await scene.validate_renewed()


async def test_a_store_that_is_away_for_a_while_ends_nothing(scene: ClusterScenario) -> None:
    """Twice, with more time in between than a step's deadline: a copy takes hours."""
    await begin(scene)
    scene.world.faults.add("slow copy")
    carrying = await scene.until("copy.passive")
    for _ in range(2):
        scene.world.faults.add("no quorum")
        await asyncio.sleep(3)
        scene.world.faults.discard("no quorum")
        await asyncio.sleep(61)
    await carrying
    await scene.validate_renewed()


async def test_the_vote_of_the_passive_is_needed_while_the_witness_is_lost(
    scene: ClusterScenario,
) -> None:
    """The passive's PostgreSQL is broken but its vote is needed for quorum: refused."""
    await scene.cluster()
    world = scene.world
    world.faults.add("never streams")
    world.power_on(world.machine(OLD).identity.vm)
    await asyncio.sleep(2)
    world.kill(WITNESS)
    with pytest.raises(ApiError) as caught:
        await scene.redeploy()
    assert caught.value.error_type is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE
    assert message_ids(caught.value) == ["no.majority"]


async def test_a_second_redeploy_meanwhile_is_told_of_the_first(scene: ClusterScenario) -> None:
    """Only one operation runs at a time, and the refusal names it."""
    await begin(scene)
    with pytest.raises(ApiError) as caught:
        await redeploy_passive(
            scene.process().services, CALLER, PassiveRedeploySpec(placement=placement("other"))
        )
    assert caught.value.error_type is ErrorType.RESOURCE_BUSY
    assert scene.task in str(caught.value)


async def test_a_node_that_is_gone_leaves_its_name_to_its_successor(scene: ClusterScenario) -> None:
    """Another node that stays in the cluster does not."""
    await scene.cluster()
    config = await scene.world.config()
    (lost,) = [node for node in config.nodes if node.name == "vcha-2"]
    await scene.world.delete_vm(lost.vm)
    for name, ids in ((lost.name, []), ("vcha-1", [f"{PREFIX}placement.name.taken"])):
        spec = PassiveCheckSpec(placement=placement(name))
        found = await check_passive(scene.process().services, CALLER, spec)
        assert [one.id for one in found.errors] == ids


async def test_a_host_without_the_address_of_the_node_is_refused(scene: ClusterScenario) -> None:
    """Before anything is created there: nobody else gives the host that address."""
    await scene.cluster()
    scene.world.faults.add("hosts lack addresses")
    spec = PassiveCheckSpec(placement=placement(NEW))
    found = await check_passive(scene.process().services, CALLER, spec)
    assert [one.id for one in found.errors] == [f"{PREFIX}address.absent"]
    assert found.errors[0].args[2] == "host-b.local"


async def test_the_task_is_refused_with_all_that_the_check_finds(scene: ClusterScenario) -> None:
    """The same list, and nothing was changed."""
    await scene.cluster()
    wrong = placement("vcha-3")
    services = scene.process().services
    found = await check_passive(services, CALLER, PassiveCheckSpec(placement=wrong))
    await scene.redeploy(PassiveRedeploySpec(placement=wrong))
    await scene.carry()
    error = (await scene.record()).error
    assert error is not None
    assert error.error_type is ErrorType.INVALID_ARGUMENT
    assert error.messages[0].id == f"{PREFIX}check.refused"
    assert error.messages[1:] == found.errors
    await scene.validate_as_before()


async def test_the_old_vm_is_kept_while_nobody_takes_writes(scene: ClusterScenario) -> None:
    """The last-copy guard applies at the end too: without a running primary nothing is deleted."""
    await begin(scene)
    await scene.die_in("join.passive")
    await scene.in_sync(new_member(scene))
    scene.world.machine(ACTIVE).postgres = "starting"
    carrying = await scene.until("commit")
    await asyncio.sleep(20)
    assert scene.world.state.inventory.vm_by_name("vcha-2") is not None
    scene.world.machine(ACTIVE).postgres = "primary"
    await carrying
    await scene.validate_renewed()


async def validate_left(scene: ClusterScenario, reason: str) -> None:
    """Check that the redeploy succeeded, and tells which VM it left and why."""
    record = await scene.record()
    assert record.status is TaskStatus.SUCCEEDED, record.error
    names = [node.name for node in (await scene.world.config()).nodes]
    assert names == ["vcha-1", NEW, "vcha-3"]
    vm = scene.world.state.inventory.vm_by_name("vcha-2")
    assert vm is not None
    (left,) = record.leftovers
    assert left.id == f"{PREFIX}commit.left"
    for text in (vm.name, vm.id, reason):
        assert text in left.default_message
    assert to_info(record).progress == TaskProgress(total=100, completed=100, message=left)
    assert await scene.world.store.get(keys.OPERATION) is None


@pytest.mark.parametrize("fault", ["cannot delete", "directory refused"])
async def test_an_old_vm_that_cannot_be_deleted_fails_no_redeploy(
    scene: ClusterScenario, fault: str
) -> None:
    """The new node is in the configuration; only the old one's VM is left, and is named."""
    await begin(scene)
    carrying = await scene.until("commit")
    scene.world.faults.add(fault)
    await carrying
    await validate_left(scene, "refused" if fault == "directory refused" else "held")


async def test_an_old_vm_that_may_be_the_last_copy_fails_no_redeploy(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept when no primary runs for a long time."""
    # Five minutes are thousands of polls, also in a simulated world.
    monkeypatch.setattr("openvcha.operations.steps.commit.ACTIVE_SECONDS", 20.0)
    await begin(scene)
    await scene.die_in("join.passive")
    await scene.in_sync(new_member(scene))
    scene.world.machine(ACTIVE).postgres = "starting"
    await scene.carry()
    await validate_left(scene, "vcha-2")


async def test_an_old_vm_that_is_busy_for_a_while_is_deleted(scene: ClusterScenario) -> None:
    """Then nothing is left to tell."""
    await begin(scene)
    carrying = await scene.until("commit")
    scene.world.faults.add("cannot delete")
    await asyncio.sleep(DELETE_SECONDS / 2)
    scene.world.faults.remove("cannot delete")
    await carrying
    await scene.validate_renewed()
    assert (await scene.record()).leftovers == ()


async def test_the_new_node_runs_where_it_was_decided(scene: ClusterScenario) -> None:
    """The placement's VM is on and the configuration names it."""
    await begin(scene)
    await scene.carry()
    inventory = await scene.process().services.infrastructure.inventory(power=True)
    vm = inventory.vm_by_name(NEW)
    assert vm is not None
    assert vm.power_state is VmPowerState.POWERED_ON
    assert vm.id in {node.vm for node in (await scene.world.config()).nodes}


async def test_a_list_that_cannot_be_kept_leaves_no_vm(scene: ClusterScenario) -> None:
    """The disk of the active fills up after the old node was fenced."""
    await begin(scene)
    carrying = await scene.until("clone.passive")
    scene.world.machine("vcha-1-old").full = True
    began = asyncio.get_running_loop().time()
    await carrying
    await scene.validate_as_before()
    # The new one never was a member: undoing waits for nothing.
    assert asyncio.get_running_loop().time() - began < 1.5 * OWN_SECONDS
