"""A transient state refuses nothing at once; an invalid argument is reported before it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import pytest
from msgspec.structs import replace
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.observations import ip
from tests.support.simulated.scenes import CALLER, ClusterScenario, placement

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.secret import Secret
from openvcha.api.structures import (
    ActiveSpec,
    ConnectionSpec,
    CredentialsSpec,
    DeploySpec,
    DeployType,
    JoinRole,
    JoinTokenSpec,
    LocalizableMessage,
    ModeClusterMode,
    PassiveCheckResult,
    PassiveCheckSpec,
    PassiveRedeploySpec,
    PassiveSpec,
    UndeploySpec,
    WitnessCheckResult,
    WitnessCheckSpec,
    WitnessRedeploySpec,
    WitnessSpec,
)
from openvcha.cluster.config import cluster_record
from openvcha.operations import deploy, failover, mode, reads, redeploy, undeploy
from openvcha.operations.context import Services
from openvcha.operations.joining import manual_join
from openvcha.operations.preconditions import SETTLE_SECONDS

pytestmark = SIMULATED

ACTIVE = "vcha-1-old"
BUSY = ErrorType.RESOURCE_BUSY.value
NOT_ALLOWED = ErrorType.NOT_ALLOWED_IN_CURRENT_STATE.value
AMBIGUOUS = CredentialsSpec(
    active_location=ConnectionSpec(
        hostname="vcenter",
        username="root",
        password=Secret("x"),
        ssl_thumbprint="AA" * 20,
        ssl_certificate="x",
    )
)
Begin = Callable[[ClusterScenario], Awaitable[object]]
Ask = Callable[[Services, CredentialsSpec | None], Awaitable[object]]


def deploy_spec(vc_spec: CredentialsSpec | None, active: str = "127.83.2.11") -> DeploySpec:
    return DeploySpec(
        deployment=DeployType.AUTO,
        active=ActiveSpec(ha_ip=ip(active)),
        passive=PassiveSpec(ha_ip=ip("127.83.2.12"), placement=placement("two")),
        witness=WitnessSpec(ha_ip=ip("127.83.2.13"), placement=placement("three")),
        vc_spec=vc_spec,
    )


async def manual(scene: ClusterScenario) -> None:
    """Begin with a lost passive that a person created."""
    await scene.cluster()
    stored = cluster_record(scene.world.store)
    await stored.update(lambda config: replace(config, deployment="MANUAL"))


async def witness_lost(scene: ClusterScenario) -> None:
    await scene.healthy()
    scene.world.kill("vcha-3-old")


OPERATIONS: dict[str, tuple[Begin, Ask]] = {
    "passive redeploy": (
        ClusterScenario.cluster,
        lambda services, peer: redeploy.redeploy_passive(
            services, CALLER, PassiveRedeploySpec(placement=placement(), vc_spec=peer)
        ),
    ),
    "passive check": (
        ClusterScenario.cluster,
        lambda services, peer: redeploy.check_passive(
            services, CALLER, PassiveCheckSpec(placement=placement(), vc_spec=peer)
        ),
    ),
    "witness redeploy": (
        witness_lost,
        lambda services, peer: redeploy.redeploy_witness(
            services, CALLER, WitnessRedeploySpec(placement=placement(), vc_spec=peer)
        ),
    ),
    "witness check": (
        witness_lost,
        lambda services, peer: redeploy.check_witness(
            services, CALLER, WitnessCheckSpec(placement=placement(), vc_spec=peer)
        ),
    ),
    "deploy": (
        ClusterScenario.single,
        lambda services, peer: deploy.deploy(services, CALLER, deploy_spec(peer)),
    ),
    "undeploy": (
        ClusterScenario.healthy,
        lambda services, peer: undeploy.undeploy(services, CALLER, UndeploySpec(vc_spec=peer)),
    ),
    "failover": (
        ClusterScenario.healthy,
        lambda services, _: failover.fail_over(services, CALLER, True),
    ),
    "mode": (
        ClusterScenario.healthy,
        lambda services, _: mode.set_mode(services, CALLER, ModeClusterMode.MAINTENANCE),
    ),
    "join token": (
        manual,
        lambda services, _: manual_join.issue_token(
            services, CALLER, JoinTokenSpec(role=JoinRole.PASSIVE)
        ),
    ),
}
CHANGING = ("passive redeploy", "witness redeploy", "deploy", "undeploy", "failover", "mode")
WITH_PEER = OPERATIONS.keys() - {"failover", "mode", "join token"}


async def begun(scene: ClusterScenario, operation: str) -> Ask:
    """Begin where the operation is allowed, with all nodes started."""
    begin, ask = OPERATIONS[operation]
    await begin(scene)
    await asyncio.sleep(2)
    return ask


def now() -> float:
    return asyncio.get_running_loop().time()


async def refusal(asked: Awaitable[object]) -> list[str]:
    """Return the reasons for the refusal; a mere check returns them as its findings."""
    try:
        found = await asked
    except ApiError as error:
        return [error.error_type.value, *names(error.messages)]
    assert isinstance(found, PassiveCheckResult | WitnessCheckResult)
    return [NOT_ALLOWED, *names(found.errors)]


def names(messages: Iterable[LocalizableMessage]) -> list[str]:
    return [said.id.rpartition("vcha.")[2] for said in messages]


async def inactive(scene: ClusterScenario, seconds: float) -> None:
    """Make the active's PostgreSQL no primary for a while: a demotion that is reverted."""
    scene.world.machine(ACTIVE).postgres = "starting"
    await asyncio.sleep(seconds)
    scene.world.machine(ACTIVE).postgres = "primary"


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_an_active_that_is_none_for_a_moment_refuses_nothing(
    scene: ClusterScenario, operation: str
) -> None:
    """An election in the store, or a late answer on a busy machine."""
    ask = await begun(scene, operation)
    passing = asyncio.create_task(inactive(scene, SETTLE_SECONDS / 2))
    await asyncio.sleep(0.1)
    found = await ask(scene.process().services, None)
    assert not getattr(found, "errors", ())
    await passing


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_does_not_pass_is_refused_in_time(
    scene: ClusterScenario, operation: str
) -> None:
    """The wait is bounded, and the refusal the same as ever."""
    ask = await begun(scene, operation)
    scene.world.machine(ACTIVE).postgres = "starting"
    asked = now()
    assert await refusal(ask(scene.process().services, None)) == [NOT_ALLOWED, "no.active"]
    assert SETTLE_SECONDS <= now() - asked < SETTLE_SECONDS + 2


@pytest.mark.parametrize("operation", CHANGING)
async def test_one_that_runs_is_named_before_any_other_reason(
    scene: ClusterScenario, operation: str
) -> None:
    """By every operation that changes the cluster, and at once, without waiting."""
    ask = await begun(scene, operation)
    await scene.journal.create(
        service="org.openvcha.test",
        operation="other$task",
        description=message("cluster.undeploy"),
        user=CALLER.user,
    )
    scene.world.machine(ACTIVE).postgres = "starting"
    asked = now()
    assert await refusal(ask(scene.process().services, None)) == [BUSY, "task.busy"]
    assert now() - asked < SETTLE_SECONDS


@pytest.mark.parametrize(("role", "lost"), [("passive", "vcha-2-old"), ("witness", "vcha-3-old")])
async def test_who_waits_for_a_sure_loss_is_not_sent_away(
    scene: ClusterScenario, role: str, lost: str
) -> None:
    """One missed answer is no loss yet; some seconds later the loss is certain."""
    await scene.healthy()
    services = scene.process().services
    await services.observe()
    frozen = scene.world.machine(lost)
    frozen.etcd, frozen.postgres = False, ""
    _, ask = OPERATIONS[f"{role} redeploy"]
    await ask(services, None)


async def test_what_cannot_pass_is_refused_at_once(scene: ClusterScenario) -> None:
    """No call waits for a healthy passive to break."""
    await scene.healthy()
    _, ask = OPERATIONS["passive redeploy"]
    asked = now()
    assert await refusal(ask(scene.process().services, None)) == [NOT_ALLOWED, "passive.healthy"]
    assert now() - asked < 1


@pytest.mark.parametrize("operation", sorted(WITH_PEER))
async def test_a_broken_argument_is_told_before_a_passing_state(
    scene: ClusterScenario, operation: str
) -> None:
    """It would still be refused later: it is reported now, without waiting."""
    ask = await begun(scene, operation)
    scene.world.machine(ACTIVE).postgres = "starting"
    await assert_ambiguous(ask(scene.process().services, AMBIGUOUS))


@pytest.mark.parametrize("get", [reads.get_cluster, reads.get_active])
async def test_a_question_with_a_broken_argument_asks_nobody(
    scene: ClusterScenario, get: Callable[..., Awaitable[object]]
) -> None:
    """Not even the store."""
    await scene.cluster()
    services = scene.process().services
    scene.world.faults.add("no quorum")
    await assert_ambiguous(get(services, CALLER, AMBIGUOUS))


async def test_another_active_address_is_told_before_a_passing_state(
    scene: ClusterScenario,
) -> None:
    """The address is the node's own and does not change."""
    await begun(scene, "deploy")
    scene.world.machine(ACTIVE).postgres = "starting"
    asked = now()
    with pytest.raises(ApiError) as caught:
        await deploy.deploy(scene.process().services, CALLER, deploy_spec(None, "127.83.2.99"))
    assert caught.value.error_type is ErrorType.INVALID_ARGUMENT
    assert now() - asked < 1


async def assert_ambiguous(asked: Awaitable[object]) -> None:
    began = now()
    with pytest.raises(ApiError) as caught:
        await asked
    assert caught.value.error_type is ErrorType.INVALID_ARGUMENT
    (said,) = caught.value.messages
    assert said.id.endswith("peer.certificate.ambiguous")
    assert now() - began < 1
