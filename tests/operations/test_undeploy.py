"""An undeploy through any failure: one node goes on, no write is lost, no writer is blocked."""

import asyncio

import msgspec
import pytest
from msgspec.structs import replace
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import SWEPT, CrashPoint
from tests.support.simulated.deploy import spec as deploy_spec
from tests.support.simulated.process import Process
from tests.support.simulated.redeploy import message_ids
from tests.support.simulated.scenes import CALLER, NEW, NEW_WITNESS, ClusterScenario
from tests.support.simulated.seen_store import SeenStore
from tests.support.simulated.undeploy import (
    ACTIVE,
    OTHERS,
    PASSIVE,
    WITNESS,
    arm,
    begin,
    validate_alone,
)

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import (
    ClusterMode,
    ConfigState,
    NodeVmInfo,
    TaskStatus,
    UndeploySpec,
    VmInfo,
)
from openvcha.cluster.config import cluster_record
from openvcha.operations.reads import get_cluster, get_deployment_type
from openvcha.operations.steps.leaving.removed_access import NODE_FILES
from openvcha.operations.undeploy import undeploy
from openvcha.store import keys

pytestmark = SIMULATED

DELETE = UndeploySpec(force_delete=True)


def named(scene: ClusterScenario, **changes: str) -> UndeploySpec:
    """Return a specification that names both VMs, with ``changes`` such as ``passive_vm``."""

    def node(role: str, name: str) -> NodeVmInfo:
        vm = scene.world.state.inventory.vm_by_name(name)
        assert vm is not None
        return NodeVmInfo(
            vm=changes.get(f"{role}_vm", vm.id),
            bios_uuid=changes.get(f"{role}_uuid", vm.bios_uuid.upper()),
        )

    vms = VmInfo(passive=node("passive", "vcha-2"), witness=node("witness", "vcha-3"))
    return UndeploySpec(vms=vms)


async def test_the_active_goes_on_alone(scene: ClusterScenario) -> None:
    """Without a specification the VMs are kept, without a key or a password."""
    await begin(scene)
    await scene.carry()
    await validate_alone(scene, kept=True)
    services = scene.process().services
    info = await get_cluster(services, CALLER)
    assert info.config_state is ConfigState.NOTCONFIGURED
    assert (await get_deployment_type(services, CALLER)).deployment_type.value == "NONE"
    assert scene.world.machine(ACTIVE).files[NODE_FILES[0]] == b"secret"


async def test_the_store_elects_nobody_anew(scene: ClusterScenario) -> None:
    """The witness led it: leadership moves to the active before any vote is removed."""
    await begin(scene)
    assert scene.world.raft == WITNESS
    await scene.carry()
    assert scene.world.elections == 0
    await validate_alone(scene, kept=True)


async def test_no_vote_is_required_once_the_votes_are_gone(scene: ClusterScenario) -> None:
    """The active's etcd stops to load new certificates: removed nodes would be powered on again."""
    await begin(scene)
    carrying = await scene.until("release")
    assert scene.world.machine(ACTIVE).required_votes is None
    await carrying
    await validate_alone(scene, kept=True)


async def test_a_confirmation_that_is_left_behind_does_not_fail_it(
    scene: ClusterScenario,
) -> None:
    """The node has deleted its copy, and takes the confirmation for deleted as well."""
    await begin(scene)
    scene.world.faults.add("deletions are lost")
    await scene.carry()
    assert await scene.world.store.prefix(keys.REQUIRED_VOTES_CONFIRMED + ACTIVE) == []
    await validate_alone(scene, kept=True)


async def test_a_copy_that_cannot_be_deleted_yet_is_waited_for(scene: ClusterScenario) -> None:
    """Until then the active would power removed nodes on; the next undeploy continues there."""
    await begin(scene)
    own = scene.world.machine(ACTIVE)
    carrying = await scene.until("votes")
    while own.required_votes is None:  # noqa: ASYNC110 - the state of a simulated disk
        await asyncio.sleep(0.01)
    own.full = True
    await carrying
    error = (await scene.record()).error
    assert error is not None
    assert message_ids(error.to_error())[:2] == ["task.step.patience", "progress.rely.disk"]
    assert [member.name for member in scene.world.members] == [ACTIVE]
    await scene.undeploy()
    carrying = await scene.until("check")
    await asyncio.sleep(30)
    own.full = False
    await carrying
    await validate_alone(scene, kept=True)


async def test_force_delete_deletes_both_and_ignores_vms(scene: ClusterScenario) -> None:
    """Whatever ``vms`` says."""
    await scene.healthy()
    wrong = named(scene, passive_vm="vm-999", witness_uuid="x").vms
    await scene.undeploy(UndeploySpec(force_delete=True, vms=wrong))
    await scene.carry()
    await validate_alone(scene, kept=False)


@pytest.mark.parametrize("force_delete", [None, False])
async def test_vms_that_are_named_rightly_are_deleted(
    scene: ClusterScenario, force_delete: bool | None
) -> None:
    """The UUID in any case."""
    await scene.healthy()
    await scene.undeploy(replace(named(scene), force_delete=force_delete))
    await scene.carry()
    await validate_alone(scene, kept=False)


@pytest.mark.parametrize(
    ("changes", "error_type", "reasons"),
    [
        ({"passive_vm": "vm-999"}, ErrorType.NOT_FOUND, ["undeploy.vm.unknown"]),
        (
            {"passive_vm": "vm-998", "witness_vm": "vm-999"},
            ErrorType.NOT_FOUND,
            ["undeploy.vm.unknown"] * 2,
        ),
        ({"witness_uuid": "other"}, ErrorType.INVALID_ARGUMENT, ["undeploy.vm.uuid"]),
        (
            {"passive_uuid": "", "witness_uuid": "other"},
            ErrorType.INVALID_ARGUMENT,
            ["undeploy.vm.uuid"] * 2,
        ),
    ],
)
async def test_vms_that_are_named_wrongly_are_refused(
    scene: ClusterScenario, changes: dict[str, str], error_type: ErrorType, reasons: list[str]
) -> None:
    """All findings at once, before there is a task."""
    await scene.healthy()
    with pytest.raises(ApiError) as caught:
        await scene.undeploy(named(scene, **changes))
    assert caught.value.error_type is error_type
    assert message_ids(caught.value) == reasons
    assert await scene.world.store.get(keys.OPERATION) is None


async def test_vms_in_each_others_place_are_refused(scene: ClusterScenario) -> None:
    """Both exist and both are the cluster's; one is even the active's."""
    await scene.healthy()
    right = named(scene).vms
    assert right
    swapped = UndeploySpec(vms=VmInfo(passive=right.witness, witness=right.passive))
    own = named(scene, passive_vm=scene.world.machine(ACTIVE).identity.vm)
    for wrong in (swapped, own):
        with pytest.raises(ApiError) as caught:
            await scene.undeploy(wrong)
        assert caught.value.error_type is ErrorType.INVALID_ARGUMENT
        assert set(message_ids(caught.value)) == {"undeploy.vm.other"}


async def test_vms_are_looked_at_again_by_the_task(scene: ClusterScenario) -> None:
    """After the call's check the passive was deleted by hand: nothing is done."""
    await scene.healthy()
    await scene.undeploy(named(scene))
    scene.world.kill(PASSIVE)
    await scene.world.delete_vm((await scene.world.config()).nodes[1].vm)
    scene.world.violations.clear()
    await scene.carry()
    record = await scene.record()
    assert record.error is not None
    assert record.error.error_type is ErrorType.NOT_FOUND
    assert len(scene.world.members) == 3
    assert (await scene.world.config()).state is ConfigState.CONFIGURED


async def test_what_a_person_deployed_is_not_deleted(scene: ClusterScenario) -> None:
    """The VMs of a manual deployment belong to the person."""
    await scene.healthy()
    record = cluster_record(scene.world.store)
    await record.update(lambda config: msgspec.structs.replace(config, deployment="MANUAL"))
    await scene.undeploy(DELETE)
    await scene.carry()
    await validate_alone(scene, kept=True)


@pytest.mark.parametrize("lost", OTHERS)
@pytest.mark.parametrize("deleted", [False, True])
async def test_a_cluster_that_has_lost_a_node_is_undeployed_too(
    scene: ClusterScenario, lost: str, deleted: bool
) -> None:
    """The dead vote is removed first: while it counts, both other votes are needed."""
    await scene.cluster(lost=lost)
    await asyncio.sleep(2)
    vm = scene.world.machine(f"{lost}-old").identity.vm
    arm(scene)
    if deleted:
        await scene.world.delete_vm(vm)
    await scene.undeploy(DELETE)
    await scene.carry()
    await validate_alone(scene, kept=False)


@pytest.mark.parametrize("mode", [ClusterMode.MAINTENANCE, ClusterMode.DISABLED])
async def test_in_every_mode(scene: ClusterScenario, mode: ClusterMode) -> None:
    """A single node has only one mode, and no other mode's settings stay in Patroni."""
    await scene.healthy()
    await scene.world.configure_patroni(dict.fromkeys(keys.SETTINGS, True))
    record = cluster_record(scene.world.store)
    await record.update(lambda config: msgspec.structs.replace(config, mode=mode))
    await scene.undeploy(DELETE)
    await scene.carry()
    await validate_alone(scene, kept=False)
    assert (await scene.world.config()).mode is ClusterMode.ENABLED


@SWEPT
@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_moment_it_goes_on_to_its_end(
    scene: ClusterScenario, after: bool, delete: bool, stride: int
) -> None:
    """Whatever the process was doing, its successor finds it and finishes."""
    wanted = UndeploySpec(force_delete=delete)
    await begin(scene, wanted)
    undisturbed = CrashPoint()
    await scene.carry(scene.process(undisturbed))
    await scene.end()
    assert undisturbed.moments > 20
    for dies_at in range(1, undisturbed.moments + 1, stride):
        again = ClusterScenario()
        await begin(again, wanted)
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        assert life.died.is_set()
        await again.carry()
        await validate_alone(again, kept=not delete)
        await again.end()


@SWEPT
@pytest.mark.parametrize("after", [False, True])
async def test_the_active_lost_at_any_moment_costs_no_acknowledged_write(
    scene: ClusterScenario, after: bool, stride: int
) -> None:
    """While the passive may take over it has every row; later no node may, and the active returns.

    If the passive took over, the wrong node would stay: the task says so, and the next one
    undeploys from there.
    """
    await begin(scene)
    undisturbed = CrashPoint()
    await scene.carry(scene.process(undisturbed))
    await scene.end()
    outcomes = set()
    for dies_at in range(1, undisturbed.moments + 1, stride):
        again = ClusterScenario()
        await begin(again)
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        assert life.died.is_set()
        taken_over = await again.world.lose_leader()
        outcomes.add(taken_over)
        await asyncio.sleep(1)
        again.world.power_on(again.world.machine(ACTIVE).identity.vm)
        await again.primary()
        await again.carry()
        assert again.world.violations == []
        assert await again.world.store.get(keys.OPERATION) is None
        if not taken_over:
            await validate_alone(again, kept=True)
        await again.end()
    assert outcomes == {False, True}


async def test_another_active_than_the_one_that_was_to_stay_ends_it(scene: ClusterScenario) -> None:
    """A failover between check and votes: no vote was removed, the cluster is as it was."""
    await begin(scene)
    await scene.die_in("votes")
    scene.world.members.sort(key=lambda member: member.name)
    if len(scene.world.members) < 3:
        pytest.fail("a vote was taken in the first moment of the step")
    assert await scene.world.lose_leader()
    scene.world.power_on(scene.world.machine(ACTIVE).identity.vm)
    await scene.carry()
    error = (await scene.record()).error
    assert error is not None
    assert message_ids(error.to_error())[0] == "active.is"
    assert len(scene.world.members) == 3
    assert (await scene.world.config()).state is ConfigState.CONFIGURED


async def test_nobody_may_take_over_while_a_vote_goes(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switchover by hand at that moment would give the lead to a node without a vote."""
    named: list[frozenset[str]] = []
    remove = SeenStore.member_remove

    async def looked_at(store: SeenStore, member_id: int) -> None:
        named.append(await scene.world.standbys())
        await remove(store, member_id)

    monkeypatch.setattr(SeenStore, "member_remove", looked_at)
    await begin(scene)
    assert await scene.world.standbys() == {PASSIVE}
    await scene.carry()
    assert named == [frozenset()] * 2
    await validate_alone(scene, kept=True)


async def test_who_leads_without_a_vote_is_not_switched_off(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patroni has named it again in that moment: what only it acknowledged is on its disk."""
    await scene.cluster(lost="vcha-3")
    await scene.in_sync(PASSIVE)
    arm(scene)
    await scene.undeploy(DELETE)
    remove, world = SeenStore.member_remove, scene.world

    async def taken_over(store: SeenStore, member_id: int) -> None:
        await remove(store, member_id)
        if len(world.members) == 1:
            world.machine(ACTIVE).postgres = ""
            await world.lead(PASSIVE)

    monkeypatch.setattr(SeenStore, "member_remove", taken_over)
    await scene.carry(Process(world, world.machine(ACTIVE).identity))
    error = (await scene.record()).error
    assert error is not None
    assert message_ids(error.to_error())[0] == "active.is"
    assert world.machine(PASSIVE).on
    assert world.violations == []


async def test_it_can_be_canceled_until_the_first_vote_goes(scene: ClusterScenario) -> None:
    """Before that everything is restored; afterwards the request is refused with the reason."""
    await begin(scene)
    await scene.journal.request_cancel(scene.task)
    await scene.carry()
    assert (await scene.record()).status is TaskStatus.FAILED
    assert len(scene.world.members) == 3
    assert (await scene.world.config()).state is ConfigState.CONFIGURED
    for step in ("votes", "release", "disarm", "renew", "alone"):
        again = ClusterScenario()
        await begin(again)
        carrying = await again.until(step)
        with pytest.raises(ApiError) as caught:
            await again.journal.request_cancel(again.task)
        assert caught.value.error_type is ErrorType.UNSUPPORTED
        await carrying
        await validate_alone(again, kept=True)
        await again.end()


async def test_nodes_are_decided_anew_only_when_patroni_can_do_without_the_store(
    scene: ClusterScenario,
) -> None:
    """Otherwise it would step down while the store restarts. The next undeploy continues there."""
    await begin(scene)
    scene.world.faults.add("no failsafe")
    await scene.carry()
    error = (await scene.record()).error
    assert error is not None
    assert message_ids(error.to_error()) == ["wait.timeout", "progress.renew.patroni"]
    assert scene.world.machine(ACTIVE).authority == 0
    scene.world.faults.clear()
    await scene.undeploy()
    await scene.carry()
    await validate_alone(scene, kept=True)


async def test_a_renewal_that_does_not_end_is_told(scene: ClusterScenario) -> None:
    """And while it lasts no node is created from credentials that are about to become invalid."""
    await begin(scene)
    scene.world.faults.add("never renewed")
    await scene.carry()
    error = (await scene.record()).error
    assert error is not None
    assert message_ids(error.to_error()) == ["wait.timeout", "progress.renew.hindered"]
    assert "does not accept the new passwords" in error.to_error().messages[1].default_message
    assert scene.process().services.credentials.pending()


@pytest.mark.parametrize("promised", [False, True])
async def test_what_comes_last_is_tried_before_anything_is_taken_away(
    scene: ClusterScenario, promised: bool
) -> None:
    """PostgreSQL takes new passwords at the end; if it could not, all votes are still there."""
    await scene.healthy()
    arm(scene)
    if promised:
        await scene.undeploy()
    scene.world.faults.add("no renewal")
    if promised:
        await scene.carry()
        error = (await scene.record()).error
        assert error is not None
        found = error.to_error()
    else:
        with pytest.raises(ApiError) as caught:
            await scene.undeploy()
        found = caught.value
    assert found.error_type is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE
    assert message_ids(found) == ["undeploy.not.renewable"]
    assert "rewind" in found.messages[0].default_message
    assert len(scene.world.members) == 3
    assert all(machine.on for machine in scene.world.machines.values())


async def test_a_kept_node_that_somebody_starts_is_switched_off_and_emptied(
    scene: ClusterScenario,
) -> None:
    """Even in the middle of the undeploy; a running node has its keys in memory."""
    await begin(scene)
    carrying = await scene.until("disarm")
    for member in (PASSIVE, WITNESS):
        scene.world.power_on(scene.world.machine(member).identity.vm)
    await carrying
    await validate_alone(scene, kept=True)


@pytest.mark.parametrize("fault", ["cannot delete", "directory refused"])
async def test_vms_that_cannot_be_deleted_fail_no_undeploy(
    scene: ClusterScenario, fault: str
) -> None:
    """The cluster is dissolved and the active is a single node; the task names what is left."""
    await scene.healthy()
    scene.world.faults.add(fault)
    await scene.undeploy(DELETE)
    await scene.carry()
    record = await scene.record()
    assert record.status is TaskStatus.SUCCEEDED, record.error
    vms = {vm.id: vm.name for vm in scene.world.state.inventory.vms}
    left = [text.default_message for text in record.leftovers]
    assert len(left) == len(vms) - 1 == 2
    for vm in (scene.world.machine(member).identity.vm for member in (PASSIVE, WITNESS)):
        assert any(f"{vms[vm]} ({vm})" in text for text in left)
    assert (await scene.world.config()).state is ConfigState.NOTCONFIGURED
    assert [member.name for member in scene.world.members] == [ACTIVE]
    with pytest.raises(ApiError) as caught:
        await undeploy(scene.process().services, CALLER, DELETE)
    assert message_ids(caught.value) == ["cluster.not.configured"]


async def test_what_a_deployment_left_half_made_is_dissolved(scene: ClusterScenario) -> None:
    """INVALID becomes NOTCONFIGURED, and no unknown member stays."""
    await scene.single()
    scene.world.add_member("https://127.83.2.99:2380")
    record = cluster_record(scene.world.store)
    await record.update(lambda config: replace(config, state=ConfigState.INVALID))
    await scene.undeploy()
    await scene.carry()
    await validate_alone(scene, kept=False)


async def test_one_that_is_alone_cannot_be_undeployed(scene: ClusterScenario) -> None:
    """There is nothing to undeploy."""
    await scene.single()
    with pytest.raises(ApiError) as caught:
        await scene.undeploy()
    assert caught.value.error_type is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE
    assert message_ids(caught.value) == ["cluster.not.configured"]


async def test_a_cluster_can_be_deployed_again(scene: ClusterScenario) -> None:
    """From one node to three, as the first time."""
    await begin(scene, DELETE)
    await scene.carry()
    await scene.deploy(deploy_spec())
    await scene.carry()
    await scene.validate(TaskStatus.SUCCEEDED)
    names = [node.name for node in (await scene.world.config()).nodes]
    assert names == ["vcha-1", NEW, NEW_WITNESS]
    assert len(scene.world.members) == 3
