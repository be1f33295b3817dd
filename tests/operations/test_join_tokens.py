"""A join token counts only while its issuer may issue it, and only until it is revoked."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.manual import ADDRESSES, PREFIX, Hand, prepared
from tests.support.simulated.scenes import CALLER, ClusterScenario

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import JoinRole, JoinTokenSpec, TaskStatus
from openvcha.operations.join_tokens import (
    TokenRecord,
    claimed,
    new_token,
    require_issuer,
    token_record,
)
from openvcha.operations.joining import manual_join
from openvcha.operations.joining.admission import registered
from openvcha.operations.joining.manual_join import list_tokens, revoke_token
from openvcha.operations.steps import manual_join_steps
from openvcha.operations.steps.new_node import NewNode
from openvcha.store import keys
from openvcha.tasks.journal import Journal
from openvcha.tasks.record import TaskRecord

pytestmark = SIMULATED

PASSIVE = JoinTokenSpec(role=JoinRole.PASSIVE)


async def issued(scene: ClusterScenario) -> Hand:
    """Return a node of a prepared cluster that has a token."""
    await prepared(scene)
    hand = Hand(scene, JoinRole.PASSIVE)
    await hand.ask()
    return hand


async def stored(scene: ClusterScenario) -> TokenRecord:
    """Return the record of the passive's token."""
    found = await token_record(scene.world.store, JoinRole.PASSIVE).get()
    assert found is not None
    return found


async def refusal(hand: Hand) -> str:
    """Return the id of the message with which the node is refused."""
    with pytest.raises(ApiError) as caught:
        await hand.call()
    return caught.value.messages[0].id.removeprefix(PREFIX)


def lose_issuer(scene: ClusterScenario) -> None:
    """Remove the user who issued the token, or let the user have another role."""
    del scene.world.administrators[CALLER.user]


def change_password(scene: ClusterScenario) -> None:
    """Change the password of the user who issued the token."""
    scene.world.administrators[CALLER.user] = "second"


@pytest.mark.parametrize("change", [lose_issuer, change_password])
async def test_a_token_counts_only_while_its_issuer_may_issue_it(
    scene: ClusterScenario, change: Any
) -> None:
    """A removed Administrator, or one whose password was stolen, adds no node later."""
    hand = await issued(scene)
    change(scene)
    assert await refusal(hand) == "join.token.issuer"
    assert (await stored(scene)).spent_by == ""
    assert await scene.world.store.get(keys.OPERATION) is None
    assert len(scene.world.members) == 1


async def test_a_token_of_an_earlier_version_does_not_count() -> None:
    """It does not say which password its issuer had."""
    _, record = new_token("127.1.1.9", "root", "", datetime.now(UTC))

    async def administrator(name: str) -> str | None:
        del name
        return ""

    with pytest.raises(ApiError) as caught:
        await require_issuer(record, administrator)
    assert caught.value.messages[0].id == f"{PREFIX}join.token.issuer"


@pytest.mark.parametrize("change", ["issuer", "revoked"])
async def test_the_task_validates_the_token_before_it_chooses_the_node(
    scene: ClusterScenario, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The issuer is removed, or the token revoked, after the task was created."""
    hand = await issued(scene)
    create = Journal.create

    async def meanwhile(journal: Journal, **fields: Any) -> TaskRecord:
        task = await create(journal, **fields)
        if change == "issuer":
            lose_issuer(scene)
        else:
            await token_record(scene.world.store, hand.role).delete()
        return task

    monkeypatch.setattr(Journal, "create", meanwhile)
    carrying = asyncio.create_task(hand.carried())
    refused = {"issuer": "join.over", "revoked": "join.token.invalid"}
    assert await refusal(hand) == refused[change]
    async with asyncio.timeout(60):
        await carrying
    record = await scene.record()
    assert record.status is TaskStatus.FAILED
    assert record.error is not None
    wanted = {"issuer": "join.token.issuer", "revoked": "join.token.invalid"}
    assert record.error.messages[0].id == PREFIX + wanted[change]
    assert len(scene.world.members) == 1


async def test_a_token_revoked_while_the_task_takes_it_is_invalid(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record disappears between the look at it and the change."""
    hand = await issued(scene)

    async def meanwhile(record: TokenRecord, administrator: Any) -> None:
        await require_issuer(record, administrator)
        await token_record(scene.world.store, hand.role).delete()

    monkeypatch.setattr(manual_join_steps, "require_issuer", meanwhile)
    carrying = asyncio.create_task(hand.carried())
    with pytest.raises(ApiError):
        await hand.call()
    async with asyncio.timeout(60):
        await carrying
    error = (await scene.record()).error
    assert error is not None
    assert [text.id for text in error.messages] == [f"{PREFIX}join.token.invalid"]


async def test_a_call_does_not_take_a_token_from_another_task(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two calls with the same key, the first one's task began and ended meanwhile."""
    hand = await issued(scene)
    create = Journal.create

    async def meanwhile(journal: Journal, **fields: Any) -> TaskRecord:
        task = await create(journal, **fields)
        await token_record(scene.world.store, hand.role).update(
            lambda record: claimed(record, record.digest, "first task")
        )
        return task

    monkeypatch.setattr(Journal, "create", meanwhile)
    carrying = asyncio.create_task(hand.carried())
    assert await refusal(hand) == "join.over"
    async with asyncio.timeout(60):
        await carrying
    assert (await stored(scene)).task == "first task"
    assert (await scene.record()).status is TaskStatus.FAILED


@pytest.mark.parametrize("change", ["issuer", "revoked"])
async def test_no_file_is_given_once_the_token_is_invalid(
    scene: ClusterScenario, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call waits until the store expects the node; the token may be revoked meanwhile."""
    hand = await issued(scene)

    async def meanwhile(*arguments: Any) -> NewNode:
        node = await registered(*arguments)
        if change == "issuer":
            lose_issuer(scene)
        else:
            await revoke_token(scene.process().services, CALLER, PASSIVE)
        return node

    monkeypatch.setattr(manual_join, "registered", meanwhile)
    carrying = asyncio.create_task(hand.carried())
    wanted = {"issuer": "join.token.issuer", "revoked": "join.token.invalid"}
    assert await refusal(hand) == wanted[change]
    await scene.journal.request_cancel((await scene.record()).id)
    await carrying


async def test_a_token_whose_task_never_began_expires(
    scene: ClusterScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another operation came first; the key that used the token must not join months later."""
    hand = await issued(scene)

    async def busy(journal: Journal, **fields: Any) -> TaskRecord:
        del journal, fields
        text = message("task.busy", "another operation", "its task")
        raise ApiError(ErrorType.RESOURCE_BUSY, text)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "create", busy)
        assert await refusal(hand) == "task.busy"
    assert (await stored(scene)).spent_by
    past = datetime.now(UTC) - timedelta(seconds=1)
    await token_record(scene.world.store, hand.role).update(
        lambda record: replace(record, expires=past)
    )
    assert await refusal(hand) == "join.token.expired"
    assert await scene.world.store.get(keys.OPERATION) is None


def test_one_task_takes_a_token() -> None:
    """The second one fails, also if the call never recorded the first."""
    _, record = new_token("127.1.1.9", "root", "first", datetime.now(UTC))
    taken = claimed(record, record.digest, "first task")
    assert claimed(taken, record.digest, "first task") == taken
    with pytest.raises(ApiError, match="has ended"):
        claimed(taken, record.digest, "second task")
    with pytest.raises(ApiError, match="issue a new one"):
        claimed(taken, "of another token", "first task")


async def test_the_tokens_are_listed(scene: ClusterScenario) -> None:
    """Who issued them, for which node, and whether a node can join with them."""
    hand = await issued(scene)
    services = scene.process().services
    (found,) = await list_tokens(services, CALLER)
    assert (found.role, found.ha_address) == (hand.role, ADDRESSES[hand.role])
    assert (found.issuer, found.valid, found.used, found.task) == ("root", True, False, None)
    change_password(scene)
    assert [each.valid for each in await list_tokens(services, CALLER)] == [False]
    await Hand(scene, JoinRole.WITNESS).ask()
    assert [each.valid for each in await list_tokens(services, CALLER)] == [False, False]
    scene.world.administrators[CALLER.user] = CALLER.generation
    carrying = asyncio.create_task(hand.carried())
    info = await hand.call()
    for role in JoinRole:
        past = datetime.now(UTC) - timedelta(seconds=1)
        await token_record(scene.world.store, role).update(partial(replace, expires=past))
    first, second = await list_tokens(services, CALLER)
    # The node may repeat its call until the task ends, even after the token has expired.
    assert (first.valid, first.used, first.task) == (True, True, scene.task)
    assert (second.role, second.valid, second.used) == (JoinRole.WITNESS, False, False)
    await hand.call()
    hand.start(info)
    await carrying
    future = datetime.now(UTC) + timedelta(hours=1)
    await token_record(scene.world.store, hand.role).update(partial(replace, expires=future))
    assert [each.valid for each in await list_tokens(services, CALLER)] == [False, False]
    assert await refusal(hand) == "join.over"


async def test_a_revoked_token_is_invalid(scene: ClusterScenario) -> None:
    """It can be revoked once, and another one can be issued."""
    hand = await issued(scene)
    services = scene.process().services
    await revoke_token(services, CALLER, PASSIVE)
    assert await list_tokens(services, CALLER) == ()
    assert await refusal(hand) == "join.token.invalid"
    with pytest.raises(ApiError) as caught:
        await revoke_token(services, CALLER, PASSIVE)
    assert caught.value.error_type is ErrorType.NOT_FOUND
    await hand.ask()
    await hand.come()
