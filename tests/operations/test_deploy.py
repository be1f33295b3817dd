"""A deployment through any failure: three nodes or one, and the store never loses quorum."""

import errno
import os
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import SWEPT, CrashPoint
from tests.support.simulated.deploy import begin, spec
from tests.support.simulated.observations import ip
from tests.support.simulated.scenes import CALLER, NEW, NEW_WITNESS, ClusterScenario, placement

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import (
    ActiveSpec,
    ConfigState,
    NetworkType,
    TaskStatus,
)
from openvcha.cluster.owed_deletions import OwedDeletion, owe
from openvcha.operations.deploy import deploy
from openvcha.store import keys

pytestmark = SIMULATED

SINCE = datetime(2026, 11, 28, tzinfo=UTC)
PREFIX = "com.vmware.vcenter.vcha."


async def validate_deployed(scene: ClusterScenario) -> None:
    await scene.validate(TaskStatus.SUCCEEDED)
    config = await scene.world.config()
    assert config.state is ConfigState.CONFIGURED
    assert [node.name for node in config.nodes] == ["vcha-1", NEW, NEW_WITNESS]
    assert len(scene.world.members) == 3


async def validate_single(scene: ClusterScenario) -> None:
    await scene.validate(TaskStatus.FAILED)
    config = await scene.world.config()
    assert config.state is ConfigState.NOTCONFIGURED
    assert [member.name for member in scene.world.members] == ["vcha-1-old"]
    assert [vm.name for vm in scene.world.state.inventory.vms] == ["vcha-1"]
    assert scene.world.quorum()


async def findings(scene: ClusterScenario) -> list[str]:
    await scene.carry()
    error = (await scene.record()).error
    assert error is not None
    assert error.error_type is ErrorType.INVALID_ARGUMENT
    return [text.id.removeprefix(PREFIX) for text in error.messages[1:]]


async def test_one_node_becomes_three(scene: ClusterScenario) -> None:
    """A passive that may take over, a witness, three votes."""
    await begin(scene)
    await scene.carry()
    await validate_deployed(scene)


async def test_nothing_is_created_during_a_rotation(scene: ClusterScenario) -> None:
    """The credentials of the new nodes would be invalid at once."""
    await begin(scene)
    scene.world.faults.add("never renewed")
    scene.world.machine("vcha-1-old").renewing = True
    await scene.carry()
    record = await scene.record()
    assert record.error is not None
    last = record.error.messages[-1].id.removeprefix(PREFIX)
    assert (last, record.started) == ("credentials.pending", ())
    await validate_single(scene)


@SWEPT
@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_moment_it_goes_on_to_its_end(
    scene: ClusterScenario, after: bool, stride: int
) -> None:
    """Whatever the process was doing, its successor finds it and finishes."""
    await begin(scene)
    undisturbed = CrashPoint()
    await scene.carry(scene.process(undisturbed))
    await scene.end()
    assert undisturbed.moments > 30
    for dies_at in range(1, undisturbed.moments + 1, stride):
        again = ClusterScenario()
        await begin(again)
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        assert life.died.is_set()
        await again.carry()
        await validate_deployed(again)
        await again.end()


@pytest.mark.parametrize("step", ["clone.passive", "clone.witness", "copy.passive", "join.passive"])
async def test_cancelled_it_is_one_node_again(scene: ClusterScenario, step: str) -> None:
    """On the way back both of two votes are needed: the store never loses quorum."""
    await begin(scene)
    carrying = await scene.until(step)
    await scene.journal.request_cancel(scene.task)
    await carrying
    await validate_single(scene)
    await scene.deploy(spec())
    await scene.carry()
    await validate_deployed(scene)


@SWEPT
@pytest.mark.usefixtures("scene")
@pytest.mark.parametrize("after", [False, True])
async def test_killed_while_it_is_undone_it_is_undone_all_the_same(
    after: bool, stride: int
) -> None:
    """Every crash point of a deployment that fails in its copy."""
    dies_at, finished = 1, False
    while not finished:
        again = ClusterScenario()
        await again.single()
        again.world.faults.add("copy fails")
        await again.deploy(spec())
        life = CrashPoint(dies_at, after=after)
        await again.carry(again.process(life))
        finished = not life.died.is_set()
        if not finished:
            await again.carry()
        await validate_single(again)
        await again.end()
        dies_at += stride
    assert dies_at > 40


async def test_a_vote_is_not_believed_taken_before_the_others_know(scene: ClusterScenario) -> None:
    """The member itself may have answered: keep it alive until another member knows."""
    await begin(scene)
    carrying = await scene.until("copy.passive")
    scene.world.faults.add("removals are heard late")
    await scene.journal.request_cancel(scene.task)
    await carrying
    await validate_single(scene)


async def test_what_cannot_be_taken_back_makes_the_cluster_invalid(scene: ClusterScenario) -> None:
    """A VM that remains is reported, and a later refusal does not hide it."""
    await scene.single()
    scene.world.faults |= {"copy fails", "cannot delete"}
    await scene.deploy(spec())
    await scene.carry()
    assert (await scene.world.config()).state is ConfigState.INVALID
    error = (await scene.record()).error
    assert error is not None
    assert f"{PREFIX}task.undo.failed" in {text.id for text in error.messages}
    await scene.deploy(spec())
    assert "placement.name.taken" in await findings(scene)
    assert (await scene.world.config()).state is ConfigState.INVALID


async def test_no_node_gets_the_name_of_one_that_is_in_no_inventory(scene: ClusterScenario) -> None:
    """Not that of a node made by hand, nor that of one that is still to be deleted."""
    await scene.single()
    inventory = scene.world.state.inventory
    unlisted = replace(inventory, vms=())
    scene.world.state = replace(scene.world.state, inventory=unlisted)
    debt = OwedDeletion(
        vm="vm-9", name=NEW.upper(), member="m", data=True, since=SINCE, reason="host away"
    )
    assert await owe(scene.world.store, debt, [])
    wanted = spec()
    witness = replace(wanted.witness, placement=placement("VCHA-1"))
    await scene.deploy(replace(wanted, witness=witness))
    found = await findings(scene)
    assert found.count("placement.name.taken") == 2


@pytest.mark.parametrize("step", ["check", "clone.witness"])
async def test_a_list_that_cannot_be_kept_leaves_nothing(scene: ClusterScenario, step: str) -> None:
    """No vote has changed for the new node yet: its VM is deleted, the task says what was full."""
    await begin(scene)
    carrying = await scene.until(step)
    scene.world.machine("vcha-1-old").full = True
    await carrying
    await validate_single(scene)
    record = await scene.record()
    # Where the first list cannot be stored, no VM is created at all.
    assert bool(record.state["passive"]["vm"]) == (step == "clone.witness")
    error = record.error
    assert error is not None
    said = [(text.id.removeprefix(PREFIX), text.default_message) for text in error.messages]
    assert [name for name, _ in said] == ["wait.timeout", "progress.rely.disk"]
    assert os.strerror(errno.ENOSPC) in said[1][1]
    scene.world.machine("vcha-1-old").full = False
    await scene.deploy(spec())
    await scene.carry()
    await validate_deployed(scene)


async def test_a_vm_that_is_left_is_named(scene: ClusterScenario) -> None:
    """Both are: a reader of the task knows what to delete."""
    await scene.single()
    scene.world.faults |= {"copy fails", "cannot delete"}
    await scene.deploy(spec())
    await scene.carry()
    error = (await scene.record()).error
    assert error is not None
    left = [text for text in error.messages if text.id.removeprefix(PREFIX) == "clone.left"]
    assert [text.args[0] for text in left] == [NEW_WITNESS, NEW]
    assert error.messages[-1].id.removeprefix(PREFIX) == "task.left"
    assert error.messages[-1].args == ("clone.passive, clone.witness",)


async def test_a_failure_after_the_commit_does_not_speak_ill_of_the_cluster(
    scene: ClusterScenario,
) -> None:
    """The nodes are configured and work: CONFIGURED, whatever could not be cleaned up."""
    await begin(scene)
    scene.world.faults.add("reports stay")
    await scene.carry()
    assert (await scene.record()).status is TaskStatus.FAILED
    config = await scene.world.config()
    assert config.state is ConfigState.CONFIGURED
    assert len(config.nodes) == len(scene.world.members) == 3
    assert await scene.world.store.get(keys.OPERATION) is None


@pytest.mark.parametrize(
    ("active", "finding"),
    [
        (ActiveSpec(ha_ip=ip("127.83.2.11"), ha_network="network-15"), "type.missing"),
        (
            ActiveSpec(
                ha_ip=ip("127.83.2.11"),
                ha_network="network-15",
                ha_network_type=NetworkType.DISTRIBUTED_PORTGROUP,
            ),
            "type.mismatch",
        ),
        (
            ActiveSpec(
                ha_ip=ip("127.83.2.11"),
                ha_network="dvportgroup-16",
                ha_network_type=NetworkType.DISTRIBUTED_PORTGROUP,
            ),
            "active.network",
        ),
    ],
)
async def test_the_active_nodes_network_can_only_be_confirmed(
    scene: ClusterScenario, active: ActiveSpec, finding: str
) -> None:
    """A request that is not carried out is refused, not ignored."""
    await scene.single()
    await scene.deploy(spec(active))
    (found,) = await findings(scene)
    assert found.endswith(finding)
    await validate_single(scene)


async def test_addresses_are_compared_even_when_the_passive_is_wrong(
    scene: ClusterScenario,
) -> None:
    """All findings at once: one wrong node does not hide the other's problems."""
    await scene.single()
    await scene.deploy(spec(passive="127.83.2.11", witness="127.83.2.11"))
    assert (await findings(scene)).count("address.duplicate") >= 3


async def test_another_ha_address_of_the_active_is_refused_at_once(scene: ClusterScenario) -> None:
    """It already runs at its own."""
    await scene.single()
    wrong = spec(ActiveSpec(ha_ip=ip("127.83.2.14")))
    with pytest.raises(ApiError) as caught:
        await deploy(scene.process().services, CALLER, wrong)
    assert caught.value.error_type is ErrorType.INVALID_ARGUMENT
