"""A node that a task creates joins with a token of that task, and gets nothing in any other way."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.crash_point import CrashPoint
from tests.support.simulated.deploy import spec as deployment
from tests.support.simulated.manual import Hand, prepared
from tests.support.simulated.redeploy import PREFIX, begin
from tests.support.simulated.scenes import CALLER, NEW, NEW_WITNESS, ClusterScenario
from tests.support.simulated.world.node import SimulatedNode

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import JoinInfo, JoinRole, JoinSpec, TaskStatus
from openvcha.cluster.config import address_text
from openvcha.infrastructure.boot import BOOT_FILE, Boot, decode_boot, encode_boot
from openvcha.node.identity import IDENTITY, Identity
from openvcha.node.process.status import BOOTSTRAP, NodeStatus
from openvcha.node.security.certificates import signing_request
from openvcha.operations.join_tokens import boot_record, digest_of
from openvcha.operations.joining import join as module
from openvcha.operations.joining.admission import answer, require_going_on
from openvcha.operations.joining.join import join
from openvcha.operations.joining.manual_join import list_tokens
from openvcha.operations.steps.new_node import NewNode, decided_node
from openvcha.store import keys
from openvcha.store.records import encode
from openvcha.tasks.record import Phase

pytestmark = SIMULATED


async def boot_of(scene: ClusterScenario, name: str = NEW) -> tuple[SimulatedNode, Boot]:
    """Return a new machine and its boot file, as soon as it has that."""
    async with asyncio.timeout(3600):
        while True:
            vm = scene.world.state.inventory.vm_by_name(name)
            if vm and BOOT_FILE in (files := scene.world.vm_files(vm.id)):
                return scene.world.machines[vm.id], decode_boot(files[BOOT_FILE])
            await asyncio.sleep(0.001)


def wish(boot: Boot, **changes: Any) -> JoinSpec:
    """Return the request of whoever has read a boot file, with a key of his own."""
    address = address_text(boot.ha_ip)
    made = JoinSpec(
        token=boot.token,
        role=JoinRole(boot.role.upper()),
        name=boot.name,
        ha_address=address,
        certificate_request=signing_request(address).certificate.decode(),
    )
    return replace(made, **changes)


async def ask(scene: ClusterScenario, spec: JoinSpec) -> JoinInfo:
    return await join(scene.process().services, CALLER, spec)


async def refusal(scene: ClusterScenario, spec: JoinSpec) -> str:
    with pytest.raises(ApiError) as caught:
        await ask(scene, spec)
    assert caught.value.error_type is not ErrorType.RESOURCE_BUSY
    return caught.value.messages[0].id.removeprefix(PREFIX)


def files_of(info: JoinInfo) -> Mapping[str, str]:
    return {path: text.reveal() for path, text in info.files.items()}


async def test_only_the_boot_file_is_written_into_a_new_node(scene: ClusterScenario) -> None:
    """It names the servers on the HA network first, and has no secret but the token."""
    await begin(scene)
    carrying = asyncio.create_task(scene.carry())
    machine, boot = await boot_of(scene)
    assert machine.files.keys() == {BOOT_FILE}
    assert boot.join == ("https://127.83.2.11:8444", "https://127.83.1.10:8443")
    assert (boot.role, boot.name) == ("passive", NEW)
    assert boot.authority_sha256 == scene.process().services.credentials.service_authority()
    stored = await boot_record(scene.world.store, "passive").get()
    assert stored is not None
    assert (stored.digest, stored.task) == (digest_of(boot.token), scene.task)
    every = b"".join(kv.value for kv in await scene.world.store.prefix(keys.ROOT))
    assert boot.token.reveal().encode() not in every
    await carrying
    await scene.validate_renewed()
    assert BOOT_FILE not in machine.files


async def test_a_witness_may_join_at_either_data_node(scene: ClusterScenario) -> None:
    """The passive may take over while the witness is created."""
    await scene.cluster(lost="vcha-3")
    scene.world.power_on(scene.world.machine("vcha-2-old").identity.vm)
    await scene.in_sync("vcha-2-old")
    await scene.redeploy_witness()
    carrying = asyncio.create_task(scene.carry())
    _, boot = await boot_of(scene)
    first, second, public = boot.join
    assert (first, second) == ("https://127.83.2.11:8444", "https://127.83.2.12:8444")
    assert public.endswith(":8443")
    await carrying
    await scene.validate_renewed(old="vcha-3")


async def test_the_first_key_owns_the_token(scene: ClusterScenario) -> None:
    """The same key gets the same answer again; another one gets nothing."""
    await begin(scene)
    scene.world.admit = _never
    carrying = asyncio.create_task(scene.carry())
    _, boot = await boot_of(scene)
    own = wish(boot)
    first, again = await ask(scene, own), await ask(scene, own)
    assert files_of(first) == files_of(again)
    assert (first.member, first.task) == (again.member, scene.task)
    assert await refusal(scene, wish(boot)) == "join.token.used"
    carrying.cancel()
    await asyncio.wait([carrying])


async def _never(_: JoinSpec) -> JoinInfo:
    raise ApiError(ErrorType.RESOURCE_BUSY)


async def held(scene: ClusterScenario) -> tuple[asyncio.Task[None], Boot]:
    """Return a running redeploy whose node never joins, and its boot file."""
    await begin(scene)
    scene.world.admit = _never
    carrying = asyncio.create_task(scene.carry())
    _, boot = await boot_of(scene)
    return carrying, boot


async def test_it_is_for_one_role_at_one_address(scene: ClusterScenario) -> None:
    """Whatever else the request says."""
    carrying, boot = await held(scene)
    other = signing_request("127.83.2.99").certificate.decode()
    assert (
        await refusal(scene, wish(boot, ha_address="127.83.2.99", certificate_request=other))
        == "join.token.address"
    )
    assert await refusal(scene, wish(boot, certificate_request=other)) == "join.request"
    assert await refusal(scene, wish(boot, role=JoinRole.WITNESS)) == "join.token.invalid"
    stored = await boot_record(scene.world.store, "passive").get()
    assert stored is not None
    assert stored.spent_by == ""
    info = await ask(scene, wish(boot, name="another"))
    assert info.member.startswith(NEW), "the task has chosen the name"
    carrying.cancel()
    await asyncio.wait([carrying])


async def test_a_witness_s_token_makes_no_data_node(scene: ClusterScenario) -> None:
    """Whatever its thief asks for: the task has decided the kind."""
    await scene.cluster(lost="vcha-3")
    scene.world.power_on(scene.world.machine("vcha-2-old").identity.vm)
    await scene.in_sync("vcha-2-old")
    await scene.redeploy_witness()
    scene.world.admit = _never
    carrying = asyncio.create_task(scene.carry())
    _, boot = await boot_of(scene)
    assert await refusal(scene, wish(boot, role=JoinRole.PASSIVE)) == "join.token.invalid"
    info = await ask(scene, wish(boot))
    identity = msgspec.json.decode(files_of(info)[IDENTITY], type=Identity)
    assert (identity.kind, identity.ha_address) == ("witness", "127.83.2.13")
    carrying.cancel()
    await asyncio.wait([carrying])


async def test_nothing_is_given_before_the_store_expects_the_node(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts while it is registered."""
    await scene.cluster()
    monkeypatch.setattr("openvcha.operations.joining.admission.ANSWER_SECONDS", 1.0)
    await scene.redeploy()
    scene.world.faults.add("removals are heard late")
    carrying = asyncio.create_task(scene.carry())
    _, boot = await boot_of(scene)
    node = await decided(scene)
    assert not [m for m in scene.world.members if not m.name]
    spec = wish(boot)
    info = await ask(scene, spec)
    assert [m for m in scene.world.members if not m.name or m.name == node.member]
    assert info.member == node.member
    carrying.cancel()
    await asyncio.wait([carrying])


async def decided(scene: ClusterScenario) -> NewNode:
    node = decided_node(await scene.record(), "passive")
    assert node is not None
    return node


async def test_it_opens_nothing_once_the_node_votes(scene: ClusterScenario) -> None:
    """A boot file that is stolen after its use is worth nothing, even while the task runs."""
    await begin(scene)
    scene.world.faults.add("slow copy")
    carrying = await scene.until("copy.passive")
    stolen = boots(scene)
    assert stolen == []
    assert await scene.world.store.prefix(keys.BOOT_TOKENS) == []
    await carrying
    await scene.validate_renewed()


def boots(scene: ClusterScenario) -> list[bytes]:
    return [m.files[BOOT_FILE] for m in scene.world.machines.values() if BOOT_FILE in m.files]


async def test_the_node_s_own_token_is_refused_after_the_commit(scene: ClusterScenario) -> None:
    """Even if its record were still there."""
    carrying, boot = await held(scene)
    stored = await boot_record(scene.world.store, "passive").get()
    assert stored is not None
    scene.world.admit = scene._admit
    await carrying
    await scene.validate_renewed()
    await scene.world.store.put(keys.boot_token("passive"), encode(stored))
    assert await refusal(scene, wish(boot)) == "join.over"


async def test_no_node_joins_that_the_configuration_names(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the commit and the end of the task."""
    carrying, boot = await held(scene)
    node = await decided(scene)

    async def registered(*_: Any) -> NewNode:
        config = await scene.world.config()
        known = replace(config.nodes[0], member=node.member)
        await scene.world.store.put(
            keys.CLUSTER, encode(replace(config, nodes=(*config.nodes, known)))
        )
        return node

    monkeypatch.setattr(module, "registered", registered)
    assert await refusal(scene, wish(boot)) == "join.over"
    carrying.cancel()
    await asyncio.wait([carrying])


async def test_a_task_that_is_told_to_stop_gives_nothing_any_more(scene: ClusterScenario) -> None:
    """The node is deleted, with its vote, its token and its account."""
    carrying, boot = await held(scene)
    await scene.journal.request_cancel(scene.task)
    assert await refusal(scene, wish(boot)) == "join.over"
    await carrying
    await scene.validate_as_before()
    assert await refusal(scene, wish(boot)) == "join.token.invalid"


@pytest.mark.parametrize(
    ("changes", "goes_on"),
    [
        ({}, True),
        ({"cancel_requested": True}, False),
        ({"phase": Phase.UNDO}, False),
        ({"status": TaskStatus.SUCCEEDED}, False),
        ({"status": TaskStatus.FAILED}, False),
    ],
)
async def test_only_a_task_that_goes_on_admits_a_node(
    scene: ClusterScenario, changes: dict[str, Any], goes_on: bool
) -> None:
    """One that is rolled back would give an account that nobody deletes."""
    await begin(scene)
    record = replace(await scene.record(), status=TaskStatus.RUNNING)
    expected = contextlib.nullcontext() if goes_on else pytest.raises(ApiError, match="has ended")
    with expected:
        require_going_on(replace(record, **changes))


async def test_the_account_of_a_witness_that_is_rolled_back_is_withdrawn(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the call created it when the roll-back had ended."""
    await scene.single()
    await scene.deploy(deployment())
    carrying = await scene.until("clone.witness")
    scene.world.admit = _never
    _, boot = await boot_of(scene, NEW_WITNESS)

    async def late(*arguments: Any) -> JoinInfo:
        await scene.journal.request_cancel(scene.task)
        await carrying
        info = await answer(*arguments)
        assert scene.world.store.accounts.known.keys() == {info.member}
        return info

    monkeypatch.setattr(module, "answer", late)
    assert await refusal(scene, wish(boot)) == "join.over"
    await scene.validate(TaskStatus.FAILED)
    assert scene.world.store.accounts.known == {}


async def test_a_task_that_continues_after_a_crash_gives_another_token(
    scene: ClusterScenario,
) -> None:
    """Nobody knows the first one: only its hash was stored."""
    await begin(scene)
    scene.world.admit = _never
    life = CrashPoint()
    carrying = await scene.until("clone.passive", scene.process(life))
    machine, first = await boot_of(scene)
    life.died.set()
    await carrying
    assert not machine.on
    carrying = asyncio.create_task(scene.carry())
    second = first
    async with asyncio.timeout(3600):
        while not machine.on:
            await asyncio.sleep(0.001)
            _, second = await boot_of(scene)
    assert await refusal(scene, wish(first)) == "join.token.invalid"
    assert (await ask(scene, wish(second))).task == scene.task
    carrying.cancel()
    await asyncio.wait([carrying])


async def test_a_node_that_has_joined_keeps_its_token_after_a_crash(
    scene: ClusterScenario,
) -> None:
    """It lost its power before it could write its files: with its key it gets them again."""
    carrying, boot = await held(scene)
    own = wish(boot)
    info = await ask(scene, own)
    carrying.cancel()
    await asyncio.wait([carrying])
    machine, _ = await boot_of(scene)
    (vm,) = [vm for vm, each in scene.world.machines.items() if each is machine]
    scene.world.power_off(vm)
    carrying = asyncio.create_task(scene.carry())
    async with asyncio.timeout(3600):
        while not machine.on:  # noqa: ASYNC110 - the task's
            await asyncio.sleep(0.001)
    assert (await boot_of(scene))[1].token == boot.token
    assert files_of(await ask(scene, own)) == files_of(info)
    carrying.cancel()
    await asyncio.wait([carrying])


async def test_an_administrator_s_token_and_a_task_s_are_apart(scene: ClusterScenario) -> None:
    """The one is not listed, and the other does not open what a task creates."""
    await prepared(scene)
    hand = Hand(scene, JoinRole.PASSIVE)
    await hand.ask()
    found = await list_tokens(scene.process().services, CALLER)
    assert [token.role for token in found] == [JoinRole.PASSIVE]
    carrying = asyncio.create_task(hand.carried())
    info = await hand.call()
    assert await scene.world.store.prefix(keys.BOOT_TOKENS) == []
    hand.start(info)
    await carrying


async def test_the_task_shows_what_its_node_waits_for(scene: ClusterScenario) -> None:
    """So a node that cannot reach the API is not just silent."""
    carrying, _ = await held(scene)
    machine, _ = await boot_of(scene)
    status = NodeStatus(
        member=NEW, kind="data", pid=1, started=1, notes={BOOTSTRAP: "no route to the API"}
    )
    machine.files["run/status.json"] = encode(status)
    async with asyncio.timeout(3600):
        while "no route" not in (await scene.record()).progress.message.default_message:  # noqa: ASYNC110 - the task's
            await asyncio.sleep(0.05)
    carrying.cancel()
    await asyncio.wait([carrying])


async def test_a_boot_file_that_nobody_uses_is_deleted_with_its_node(
    scene: ClusterScenario,
) -> None:
    """The task gives up, and its token is worth nothing from then on."""
    carrying, boot = await held(scene)
    await carrying
    await scene.validate_as_before()
    assert await refusal(scene, wish(boot)) == "join.token.invalid"
    assert encode_boot(boot) not in boots(scene)
    assert not [m for m in scene.world.machines.values() if IDENTITY not in m.files]
