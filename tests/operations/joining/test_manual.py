"""A manual deployment: prepared addresses, single-use tokens, nodes that join by hand."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import CrashPoint
from tests.support.simulated.manual import (
    ADDRESSES,
    NAMES,
    PREFIX,
    ROLES,
    Hand,
    complete,
    prepared,
    spec,
)
from tests.support.simulated.observations import ip
from tests.support.simulated.scenes import CALLER, NEW, NEW_WITNESS, ClusterScenario, placement

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.secret import Secret
from openvcha.api.structures import (
    ConfigState,
    DeployType,
    JoinRole,
    JoinSpec,
    PassiveRedeploySpec,
    PassiveSpec,
    TaskStatus,
    WitnessSpec,
)
from openvcha.cluster import preconditions
from openvcha.cluster.config import NodeKind
from openvcha.node.security.certificates import signing_request
from openvcha.operations.deploy import deploy
from openvcha.operations.join_tokens import (
    claimed,
    new_token,
    require_token,
    spent,
    token_record,
)
from openvcha.operations.joining import manual_join
from openvcha.operations.reads import get_cluster, get_deployment_type, get_operations
from openvcha.store import keys
from openvcha.store.base_backup_reports import BaseBackupReport, BaseBackupState
from openvcha.store.errors import StoreUnavailable
from openvcha.store.records import Record, encode
from openvcha.tasks.journal import Journal
from openvcha.tasks.record import TaskRecord

pytestmark = SIMULATED


async def refused(scene: ClusterScenario, hand: Hand, **changes: Any) -> str:
    with pytest.raises(ApiError) as caught:
        await hand.call(**changes)
    assert await scene.world.store.get(keys.OPERATION) is None
    return caught.value.messages[0].id.removeprefix(PREFIX)


async def validate_complete(scene: ClusterScenario) -> None:
    record = await scene.record()
    assert record.status is TaskStatus.SUCCEEDED, record.error
    assert scene.world.violations == []
    config = await scene.world.config()
    assert (config.state, config.deployment) == (ConfigState.CONFIGURED, "MANUAL")
    assert {node.name for node in config.nodes} == {"vcha-1", NEW, NEW_WITNESS}
    assert config.planned == ()
    assert {m.name for m in scene.world.members} == {node.member for node in config.nodes}
    assert not any(member.learner for member in scene.world.members)
    info = await get_cluster(scene.process().services, CALLER)
    assert info.health_state == "HEALTHY"
    assert await scene.world.left_reports() == set()


async def test_it_ends_prepared(scene: ClusterScenario) -> None:
    """No node is created and no vote given; both nodes are expected at their addresses."""
    await prepared(scene)
    services = scene.process().services
    config = await scene.world.config()
    assert config.state is ConfigState.PREPARED
    assert [node.ha_address for node in config.planned] == list(ADDRESSES.values())
    assert len(config.nodes) == len(scene.world.members) == 1
    assert (await get_cluster(services, CALLER)).config_state == "PREPARED"
    assert (await get_deployment_type(services, CALLER)).deployment_type == "MANUAL"
    assert preconditions.REDEPLOY_PASSIVE in (await get_operations(services, CALLER)).disabled


@pytest.mark.parametrize(("passive", "witness"), [(True, False), (False, True), (True, True)])
async def test_a_manual_one_has_no_placements(
    scene: ClusterScenario, passive: bool, witness: bool
) -> None:
    """Each placement that is set is named."""
    await scene.single()
    with pytest.raises(ApiError) as caught:
        await deploy(scene.process().services, CALLER, spec(passive, witness))
    assert caught.value.error_type is ErrorType.INVALID_ARGUMENT
    named = {text.args[0] for text in caught.value.messages}
    wanted = {"spec.passive.placement": passive, "spec.witness.placement": witness}
    assert named == {path for path, given in wanted.items() if given}


async def test_an_automatic_one_has_both(scene: ClusterScenario) -> None:
    """A mixture is refused from this side too."""
    await scene.single()
    mixed = replace(spec(passive=True), deployment=DeployType.AUTO)
    with pytest.raises(ApiError) as caught:
        await deploy(scene.process().services, CALLER, mixed)
    assert [text.args[0] for text in caught.value.messages] == ["spec.witness.placement"]


async def test_addresses_are_checked(scene: ClusterScenario) -> None:
    """The active's own, or the same for both: nothing is prepared."""
    await scene.single()
    own = ip("127.83.2.11")
    wrong = replace(spec(), passive=PassiveSpec(ha_ip=own), witness=WitnessSpec(ha_ip=own))
    await scene.deploy(wrong)
    await scene.carry()
    error = (await scene.record()).error
    assert error is not None
    found = [text.id.removeprefix(PREFIX) for text in error.messages]
    assert found.count("address.duplicate") >= 3
    assert (await scene.world.config()).state is ConfigState.NOTCONFIGURED


async def test_a_preparation_waits_until_the_settings_can_be_read(scene: ClusterScenario) -> None:
    """One slow login decides nothing; the reason is shown meanwhile."""
    await scene.single()
    await scene.deploy(spec())
    scene.world.faults.add("no survey")
    carrying = await scene.until("prepare")
    await asyncio.sleep(5)
    progress = (await scene.record()).progress
    assert progress is not None
    assert "no answer within 10 s" in progress.message.default_message
    scene.world.faults.discard("no survey")
    await carrying
    assert (await scene.record()).status is TaskStatus.SUCCEEDED
    assert (await scene.world.config()).state is ConfigState.PREPARED


async def test_settings_that_cannot_be_read_refuse_a_preparation(scene: ClusterScenario) -> None:
    """After a while: the passive's base backup would fail for the same reason."""
    await scene.single()
    await scene.deploy(spec())
    scene.world.faults.add("no survey")
    await scene.carry()
    error = (await scene.record()).error
    assert error is not None
    assert f"{PREFIX}check.postgres.silent" in [text.id for text in error.messages]
    assert (await scene.world.config()).state is ConfigState.NOTCONFIGURED


@pytest.mark.parametrize("order", [ROLES, ROLES[::-1]])
async def test_when_both_are_there_the_cluster_begins(
    scene: ClusterScenario, order: tuple[JoinRole, ...]
) -> None:
    """In either order."""
    await prepared(scene)
    for role in order:
        hand = Hand(scene, role)
        await hand.ask()
        await hand.come()
        if role is order[0]:
            assert (await scene.world.config()).state is ConfigState.PREPARED
            assert (await scene.record()).status is TaskStatus.SUCCEEDED
    await validate_complete(scene)


async def test_a_witness_may_join_long_after_the_passive(scene: ClusterScenario) -> None:
    """The passive's report has expired by then: that it streams proves its base backup."""
    await prepared(scene)
    first, second = (Hand(scene, role) for role in (JoinRole.PASSIVE, JoinRole.WITNESS))
    await first.ask()
    await first.come()
    node = (await scene.world.config()).planned_node(NodeKind.DATA)
    assert node is not None
    report = Record(scene.world.store, keys.base_backup_report(node.member), BaseBackupReport)
    async with asyncio.timeout(60):
        while (said := await report.get()) is None or said.state is not BaseBackupState.DONE:  # noqa: ASYNC110 - the store's
            await asyncio.sleep(0.01)
    await report.delete()
    await second.ask()
    await second.come()
    await validate_complete(scene)


async def test_it_can_be_prepared_anew_until_a_node_has_joined(scene: ClusterScenario) -> None:
    """A wrong address can be corrected; no old token survives it."""
    await prepared(scene)
    hand = Hand(scene, JoinRole.WITNESS)
    await hand.ask()
    await scene.deploy(spec())
    await scene.carry()
    assert await refused(scene, hand) == "join.token.invalid"
    await hand.ask()
    await hand.come()
    with pytest.raises(ApiError) as caught:
        await scene.deploy(spec())
    assert caught.value.messages[0].id == f"{PREFIX}cluster.prepared"


async def test_no_token_before_there_is_something_to_join(scene: ClusterScenario) -> None:
    """Nor in a cluster that was deployed automatically."""
    await scene.single()
    with pytest.raises(ApiError) as caught:
        await Hand(scene, JoinRole.PASSIVE).ask()
    assert caught.value.error_type is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE


async def test_what_is_no_token_opens_nothing(scene: ClusterScenario) -> None:
    """Wrong, for the other role, for another address, or replaced by a later one."""
    await prepared(scene)
    hand, other = Hand(scene, JoinRole.PASSIVE), Hand(scene, JoinRole.WITNESS)
    await hand.ask()
    await other.ask()
    assert await refused(scene, hand, token=Secret("guessed")) == "join.token.invalid"
    assert await refused(scene, hand, token=other.token) == "join.token.invalid"
    assert await refused(scene, hand, ha_address="127.83.2.14") == "join.token.address"
    first = hand.token
    await hand.ask()
    assert await refused(scene, hand, token=first) == "join.token.invalid"
    assert len(scene.world.members) == 1


async def test_the_request_is_for_the_address_and_signed(scene: ClusterScenario) -> None:
    """Only what the holder of the key requested is certified."""
    await prepared(scene)
    hand = Hand(scene, JoinRole.PASSIVE)
    await hand.ask()
    foreign = signing_request("127.83.2.99").certificate.decode()
    assert await refused(scene, hand, certificate_request=foreign) == "join.request"
    assert await refused(scene, hand, certificate_request="nonsense") == "join.request"
    assert await refused(scene, hand, name="vcha-1") == "join.name"
    assert await refused(scene, hand, name="../x") == "join.name"


async def test_a_token_is_good_for_one_node(scene: ClusterScenario) -> None:
    """The same node may ask again while its task runs; no other may, and none once it has ended."""
    await prepared(scene)
    hand = Hand(scene, JoinRole.PASSIVE)
    await hand.ask()
    carrying = asyncio.create_task(hand.carried())
    first = await hand.call()
    again = await hand.call()
    assert (again.member, again.task) == (first.member, first.task)
    thief = Hand(scene, JoinRole.PASSIVE)
    thief.token = hand.token
    with pytest.raises(ApiError) as caught:
        await thief.call()
    assert caught.value.messages[0].id == f"{PREFIX}join.token.used"
    hand.start(first)
    await carrying
    assert await refused(scene, hand) == "join.over"


async def test_a_token_that_is_replaced_while_it_is_used_opens_nothing(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its issuer has revoked it; and the later one is not consumed by it."""
    await prepared(scene)
    hand, later = Hand(scene, JoinRole.PASSIVE), Hand(scene, JoinRole.PASSIVE)
    await hand.ask()
    possible = manual_join._require_possible

    async def meanwhile(services: Any, wish: JoinSpec) -> None:
        await possible(services, wish)
        await later.ask()

    with monkeypatch.context() as patch:
        patch.setattr(manual_join, "_require_possible", meanwhile)
        assert await refused(scene, hand) == "join.token.used"
    stored = await token_record(scene.world.store, JoinRole.PASSIVE).get()
    assert stored is not None
    assert stored.spent_by == ""
    await later.come()


async def test_a_later_token_does_not_get_the_task_of_the_one_before(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was issued as that task began, which revokes the first: that task fails."""
    await prepared(scene)
    hand, later = Hand(scene, JoinRole.PASSIVE), Hand(scene, JoinRole.PASSIVE, "later")
    await hand.ask()
    stored = token_record(scene.world.store, JoinRole.PASSIVE)
    create = Journal.create

    async def meanwhile(journal: Journal, **fields: Any) -> TaskRecord:
        task = await create(journal, **fields)
        later.token, record = new_token(hand.wish().ha_address, "root", "first", journal.clock())
        await scene.world.store.put(stored.key, encode(record))
        return task

    carrying = asyncio.create_task(hand.carried())
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "create", meanwhile)
        with pytest.raises(ApiError) as caught:
            await hand.call()
    await carrying
    assert caught.value.messages[0].id == f"{PREFIX}join.over"
    found = await stored.get()
    assert found is not None
    assert found.task == ""
    await later.come()


async def test_no_token_is_issued_while_a_node_of_the_role_joins(scene: ClusterScenario) -> None:
    """It would replace the token with which that node asks again."""
    await prepared(scene)
    hand = Hand(scene, JoinRole.PASSIVE)
    await hand.ask()
    carrying = asyncio.create_task(hand.carried())
    info = await hand.call()
    with pytest.raises(ApiError) as caught:
        await Hand(scene, JoinRole.PASSIVE).ask()
    assert caught.value.messages[0].id == f"{PREFIX}task.busy"
    await Hand(scene, JoinRole.WITNESS).ask()
    hand.start(info)
    await carrying


async def test_a_call_that_dies_before_it_notes_its_task_finds_it_again(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node asks again, and is not refused for the task that it started itself."""
    await prepared(scene)
    hand = Hand(scene, JoinRole.PASSIVE)
    await hand.ask()
    create = Journal.create

    async def dies(journal: Journal, **fields: Any) -> TaskRecord:
        await create(journal, **fields)
        raise StoreUnavailable("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "create", dies)
        with pytest.raises(StoreUnavailable):
            await hand.call()
    await hand.come()
    assert (await scene.record()).status is TaskStatus.SUCCEEDED


def test_a_token_expires() -> None:
    """After a day it is invalid; one whose task began in time stays valid for its user."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    token, record = new_token("127.83.2.12", "root", "first", now)
    assert token.reveal() not in repr(record)
    wish = JoinSpec(
        token=token,
        role=JoinRole.PASSIVE,
        name="n",
        ha_address="127.83.2.12",
        certificate_request="",
    )
    with pytest.raises(ApiError, match="not valid for"):
        require_token(None, wish, now)
    later = now + timedelta(hours=24)
    assert require_token(record, wish, later - timedelta(seconds=1)) == record
    with pytest.raises(ApiError, match="expired"):
        require_token(record, wish, later)
    used = spent(record, record.digest, b"key")
    with pytest.raises(ApiError, match="expired"):
        require_token(used, wish, later)
    begun = claimed(used, record.digest, "task")
    assert require_token(begun, wish, later) == begun


async def test_nobody_comes_and_nothing_is_left(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is reserved for a while; then the learner is removed, and another may join."""
    monkeypatch.setattr("openvcha.operations.steps.manual_join_steps.START_SECONDS", 20.0)
    await prepared(scene)
    hand = Hand(scene, JoinRole.PASSIVE)
    await hand.ask()
    carrying = asyncio.create_task(hand.carried())
    await hand.call()
    await carrying
    assert (await scene.record()).status is TaskStatus.FAILED
    assert [member.name for member in scene.world.members] == ["vcha-1-old"]
    assert await refused(scene, hand) == "join.over"
    for role in ROLES:
        hand = Hand(scene, role, f"second-{role.value}")
        await hand.ask()
        await hand.come()
    assert (await scene.world.config()).state is ConfigState.CONFIGURED


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_moment_it_goes_on(scene: ClusterScenario, after: bool) -> None:
    """The active's process dies anywhere in the second join, which has the most to do."""
    await prepared(scene)
    dies_at = 0
    died = True
    while died:
        dies_at += 1
        again = ClusterScenario()
        await prepared(again)
        first = Hand(again, JoinRole.WITNESS)
        await first.ask()
        await first.come()
        hand = Hand(again, JoinRole.PASSIVE)
        await hand.ask()
        life = CrashPoint(dies_at, after=after)
        await hand.come(life)
        await validate_complete(again)
        died = life.died.is_set()
        await again.end()
    assert dies_at > 10


async def test_a_lost_passive_is_redeployed_by_placement(scene: ClusterScenario) -> None:
    """A node the cluster cannot power off must be off; then the infrastructure creates another."""
    machines = await complete(scene)
    scene.world.power_off(machines[JoinRole.PASSIVE])
    await scene.look_on()
    spec = PassiveRedeploySpec(placement=placement("by-placement"))
    await scene.redeploy(spec)
    await scene.carry()
    record = await scene.record()
    assert record.status is TaskStatus.SUCCEEDED, record.error
    config = await scene.world.config()
    assert {node.name for node in config.nodes} == {"vcha-1", "by-placement", NEW_WITNESS}
    assert config.deployment == "MANUAL"
    assert len(scene.world.members) == 3
    assert scene.world.violations == []


async def test_a_node_that_still_answers_is_not_replaced(scene: ClusterScenario) -> None:
    """Its PostgreSQL would run beside the new one: the person is told to power it off."""
    machines = await complete(scene)
    scene.world.machines[machines[JoinRole.PASSIVE]].etcd = False
    await scene.look_on()
    await scene.redeploy(PassiveRedeploySpec(placement=placement("by-placement")))
    await scene.carry()
    record = await scene.record()
    assert record.status is TaskStatus.FAILED
    assert record.error is not None
    assert f"{PREFIX}fence.still.answers" in {text.id for text in record.error.messages}
    assert scene.world.state.inventory.vm_by_name("by-placement") is None


@pytest.mark.parametrize("role", ROLES)
async def test_a_lost_node_is_replaced_by_hand(scene: ClusterScenario, role: JoinRole) -> None:
    """A new token and a new node at the same address."""
    machines = await complete(scene)
    with pytest.raises(ApiError):
        await Hand(scene, role).ask()
    scene.world.power_off(machines[role])
    await scene.look_on()
    hand = Hand(scene, role, "another")
    await hand.ask()
    await hand.come()
    record = await scene.record()
    assert record.status is TaskStatus.SUCCEEDED, record.error
    config = await scene.world.config()
    kept = NAMES[JoinRole.WITNESS if role is JoinRole.PASSIVE else JoinRole.PASSIVE]
    assert {node.name for node in config.nodes} == {"vcha-1", "another", kept}
    assert len(scene.world.members) == 3
    seen = await scene.process().services.observe()
    assert preconditions.why_not_join(NodeKind.DATA, seen) is not None
