"""Each check of a join, in a state where it alone refuses."""

import asyncio

import pytest
from tests.support.simulated.crash_point import CrashPoint
from tests.support.simulated.manual import ADDRESSES, PREFIX, Hand, complete, prepared
from tests.support.simulated.scenes import CALLER, NEW, VERY_LONG, ClusterScenario, placement

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import JoinInfo, JoinRole, PassiveRedeploySpec
from openvcha.infrastructure.interface import Placement, VmRequest
from openvcha.operations.join_tokens import token_record
from openvcha.operations.joining.admission import ANSWER_SECONDS
from openvcha.operations.joining.join import join
from openvcha.operations.joining.manual_join import list_tokens
from openvcha.operations.steps.new_node import decided_node
from openvcha.store import keys

pytestmark = pytest.mark.looptime


async def call(hand: Hand) -> JoinInfo:
    """Join once; a call that never ends fails the test."""
    async with asyncio.timeout(10 * ANSWER_SECONDS):
        return await join(hand.scene.process().services, CALLER, hand.wish())


async def refusal(hand: Hand) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await call(hand)
    return caught.value


def reason(error: ApiError) -> str:
    return error.messages[0].id.removeprefix(PREFIX)


async def refused(hand: Hand) -> str:
    """Return why the call is refused; it starts no task and uses no token."""
    error = await refusal(hand)
    store = hand.scene.world.store
    assert await store.get(keys.OPERATION) is None
    stored = await token_record(store, hand.role).get()
    assert stored is not None
    assert stored.spent_by == ""
    return reason(error)


async def begun(scene: ClusterScenario) -> Hand:
    """Return a join whose call started its task and died while no process carries it out."""
    await prepared(scene)
    hand = Hand(scene, JoinRole.PASSIVE)
    await hand.ask()
    assert reason(await refusal(hand)) == "join.not.yet"
    running = await scene.journal.running()
    assert running is not None
    scene.task = running.id
    return hand


async def carried_into(scene: ClusterScenario, step: str) -> None:
    """Let a process carry the task out until this step begins, and die there."""
    await scene.die_in(step)
    assert (await scene.record()).step == step


async def test_the_state_is_looked_at_again_when_the_token_is_used(scene: ClusterScenario) -> None:
    """A node that was lost when the token was issued has come back."""
    machines = await complete(scene)
    lost = machines[JoinRole.WITNESS]
    scene.world.power_off(lost)
    await scene.look_on()
    hand = Hand(scene, JoinRole.WITNESS, "another")
    await hand.ask()
    scene.world.power_on(lost)
    async with asyncio.timeout(VERY_LONG):
        while not scene.world.machines[lost].etcd:  # noqa: ASYNC110 - the node's
            await asyncio.sleep(0.01)
    assert await refused(hand) == "witness.healthy"


@pytest.mark.parametrize(
    ("first", "second"),
    [("third", "third"), ("third", "THIRD"), ("Third", "third")],
    ids=["same", "upper case wanted", "upper case taken"],
)
async def test_the_name_of_a_node_that_has_joined_is_taken(
    scene: ClusterScenario, first: str, second: str
) -> None:
    """A prepared cluster has it among the planned nodes, and no inventory lists it."""
    await prepared(scene)
    witness = Hand(scene, JoinRole.WITNESS, first)
    await witness.ask()
    await witness.come()
    hand = Hand(scene, JoinRole.PASSIVE, second)
    await hand.ask()
    assert await refused(hand) == "join.name"


@pytest.mark.parametrize("name", ["Third", "third", NEW])
async def test_the_name_of_a_node_of_the_cluster_is_taken(
    scene: ClusterScenario, name: str
) -> None:
    """Even a lost node's, which may come back; a manual node is in no inventory."""
    machines = await complete(scene, witness="Third")
    scene.world.power_off(machines[JoinRole.PASSIVE])
    await scene.look_on()
    hand = Hand(scene, JoinRole.PASSIVE, name)
    await hand.ask()
    assert await refused(hand) == "join.name"


@pytest.mark.parametrize("name", ["somebody", "Somebody"])
async def test_the_name_of_a_vm_is_taken(scene: ClusterScenario, name: str) -> None:
    """Whichever VM it is: a placement would find two."""
    await prepared(scene)
    scene.world.add_vm(
        VmRequest(
            placement=Placement(
                name="somebody",
                folder="group-v3",
                host="host-11",
                resource_pool="resgroup-9",
                datastore="datastore-14",
                ha_network="network-15",
                management_network="network-12",
            ),
            token="somebody",
            addresses=("127.83.2.40",),
        )
    )
    hand = Hand(scene, JoinRole.PASSIVE, name)
    await hand.ask()
    assert await refused(hand) == "join.name"


async def test_who_asks_gets_an_answer_in_time(scene: ClusterScenario) -> None:
    """No process carries the task out: the call says to try again before the client times out."""
    hand = await begun(scene)
    loop = asyncio.get_running_loop()
    before = loop.time()
    error = await refusal(hand)
    assert error.error_type is ErrorType.RESOURCE_BUSY
    assert reason(error) == "join.not.yet"
    assert ANSWER_SECONDS <= loop.time() - before < ANSWER_SECONDS + 1


async def test_nothing_is_given_before_the_store_awaits_the_node(scene: ClusterScenario) -> None:
    """Its name is decided, but an etcd that is not a member would exit at start."""
    hand = await begun(scene)
    await carried_into(scene, "admit.passive")
    node = decided_node(await scene.record(), hand.role.value.lower())
    assert node is not None
    assert len(scene.world.members) == 1
    assert reason(await refusal(hand)) == "join.not.yet"


async def test_a_task_that_was_told_to_stop_gives_nothing_any_more(scene: ClusterScenario) -> None:
    """Its address is still reserved, but will be released: the node would belong to no cluster."""
    hand = await begun(scene)
    life = CrashPoint()
    carrying = asyncio.create_task(scene.carry(scene.process(life)))
    info = await call(hand)
    life.died.set()
    await carrying
    assert [member.learner for member in scene.world.members] == [False, True]
    await scene.journal.request_cancel(info.task)
    assert not (await scene.record()).finished
    error = await refusal(hand)
    assert error.error_type is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE
    assert reason(error) == "join.over"
    assert [one.valid for one in await list_tokens(scene.process().services, CALLER)] == [False]


async def test_another_operation_is_no_joining(scene: ClusterScenario) -> None:
    """A token may be issued beside it; using it is refused like any second operation."""
    machines = await complete(scene)
    scene.world.power_off(machines[JoinRole.PASSIVE])
    await scene.look_on()
    await scene.redeploy(PassiveRedeploySpec(placement=placement("by-placement")))
    hand = Hand(scene, JoinRole.PASSIVE, "another")
    await hand.ask()
    assert hand.wish().ha_address == ADDRESSES[JoinRole.PASSIVE]
    error = await refusal(hand)
    assert error.error_type is ErrorType.RESOURCE_BUSY
    assert reason(error) == "task.busy"


async def test_no_node_joins_during_a_rotation(scene: ClusterScenario) -> None:
    """Its credentials would be invalid at once; the token is not used up."""
    await prepared(scene)
    hand = Hand(scene, JoinRole.PASSIVE)
    await hand.ask()
    scene.world.faults.add("never renewed")
    active = scene.world.machine(await scene.world.leader() or "")
    active.renewing = True
    error = await refusal(hand)
    assert error.error_type is ErrorType.RESOURCE_BUSY
    assert reason(error) == "credentials.pending"
    assert await scene.journal.running() is None
    active.renewing = False
    assert reason(await refusal(hand)) == "join.not.yet"


async def test_the_task_of_the_other_role_is_not_found_by_a_token(scene: ClusterScenario) -> None:
    """The witness joins: the holder of the passive's token must wait."""
    await prepared(scene)
    hand, other = Hand(scene, JoinRole.PASSIVE), Hand(scene, JoinRole.WITNESS)
    await hand.ask()
    await other.ask()
    assert reason(await refusal(other)) == "join.not.yet"
    assert reason(await refusal(hand)) == "task.busy"


async def test_the_task_of_another_token_of_the_role_is_not_found_either(
    scene: ClusterScenario,
) -> None:
    """A node's identity is only for the holder of its token; a newer token starts its own task."""
    hand = await begun(scene)
    await carried_into(scene, "admit.passive")
    later = Hand(scene, JoinRole.PASSIVE, "later")
    other = Hand(ClusterScenario(), JoinRole.PASSIVE)
    await prepared(other.scene)
    await other.ask()
    issued = await token_record(other.scene.world.store, JoinRole.PASSIVE).get()
    assert issued is not None
    later.token = other.token
    await token_record(scene.world.store, JoinRole.PASSIVE).update(lambda _: issued)
    assert reason(await refusal(later)) == "task.busy"
    await other.scene.end()
    assert hand.token != later.token
