"""The store requests of a request with a session: one read, and never a stale one."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
import pytest
from tests.support.edge import ADMINISTRATOR, NOBODY, PASSWORD, Edge, cheap_passwords, make_edge

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.secret import Secret
from openvcha.api_server.auth import sessions as module
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.sessions import SessionRecord, Sessions, token_hash
from openvcha.api_server.auth.users import Users
from openvcha.store import keys
from openvcha.store.interface import KeyValue
from openvcha.store.memory import MemoryStore


class Counting(MemoryStore):
    """A store that counts its reads."""

    reads = 0

    async def get(self, key: str) -> KeyValue | None:
        self.reads += 1
        return await super().get(key)

    async def get_many(self, names: Sequence[str]) -> list[KeyValue | None]:
        self.reads += 1
        return await super().get_many(names)


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    made = await make_edge(Counting())
    await made.users.add(ADMINISTRATOR, Secret(PASSWORD), UserRole.ADMINISTRATOR)
    await made.users.add(NOBODY, Secret(PASSWORD), UserRole.NO_ACCESS)
    async with made.client:
        yield made


async def begun(edge: Edge, name: str = ADMINISTRATOR) -> tuple[Sessions, Secret]:
    """Open a session, and use it once: from then on its user is known."""
    sessions = Sessions(edge.store, edge.users, clock=edge.clock)
    user = await edge.users.find(name)
    assert user is not None
    token = await sessions.create(user)
    assert (await sessions.resolve(token)).user == user
    return sessions, token


async def test_a_session_that_is_known_costs_one_read(edge: Edge) -> None:
    """Even after every kind of change meanwhile."""
    sessions, token = await begun(edge)
    assert isinstance(edge.store, Counting)
    for name in ("one", "two"):
        before = edge.store.reads
        await sessions.resolve(token)
        assert edge.store.reads == before + 1
        await edge.users.add(name, Secret(PASSWORD), UserRole.ADMINISTRATOR)


def program(edge: Edge) -> Users:
    """Return the users as a command on the node sees them."""
    return Users(edge.store, passwords=cheap_passwords())


async def removed(edge: Edge) -> None:
    await program(edge).remove(NOBODY)


async def added_anew(edge: Edge) -> None:
    await removed(edge)
    await program(edge).add(NOBODY, Secret(PASSWORD), UserRole.ADMINISTRATOR)


async def given_another_password(edge: Edge) -> None:
    await program(edge).passwd(NOBODY, Secret("another-password"))


async def ended(edge: Edge) -> None:
    for kv in await edge.store.prefix(keys.SESSIONS):
        await edge.store.delete(kv.key)


@pytest.mark.parametrize("change", [removed, added_anew, given_another_password, ended])
async def test_what_another_program_takes_away_counts_from_the_next_request_on(
    edge: Edge, change: Callable[[Edge], Awaitable[None]]
) -> None:
    """Only a session's user is cached, nothing else of it."""
    sessions, token = await begun(edge, NOBODY)
    await change(edge)
    for _ in range(2):
        with pytest.raises(ApiError) as refused:
            await sessions.resolve(token)
        assert refused.value.error_type is ErrorType.UNAUTHENTICATED


async def test_another_role_counts_from_the_next_request_on(edge: Edge) -> None:
    """Raised or lowered by another program."""
    sessions, token = await begun(edge, NOBODY)
    for role in (UserRole.ADMINISTRATOR, UserRole.READ_ONLY, UserRole.NO_ACCESS):
        await program(edge).set_role(NOBODY, role)
        assert (await sessions.resolve(token)).user.role is role


async def test_a_session_that_is_suddenly_anothers_is_his(edge: Edge) -> None:
    """The cached user is a guess at what to read, and is compared with the record each time."""
    sessions, token = await begun(edge, NOBODY)
    other = await edge.users.find(ADMINISTRATOR)
    assert other is not None
    key = keys.session(token_hash(token.reveal()).hex())
    record = SessionRecord(
        user=ADMINISTRATOR,
        generation=other.generation,
        created=edge.clock(),
        last_accessed=edge.clock(),
    )
    await edge.store.put(key, msgspec.json.encode(record))
    for _ in range(2):
        assert (await sessions.resolve(token)).user == other


async def test_whose_sessions_are_is_remembered_of_few(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest are evicted, expired ones at once; an evicted one costs one more read."""
    monkeypatch.setattr(module, "MAX_OWNERS", 2)
    sessions, token = await begun(edge)
    user = (await sessions.resolve(token)).user
    others = [await sessions.create(user) for _ in range(3)]
    for other in others:
        await sessions.resolve(other)
    assert len(sessions._owners) == 2
    assert (await sessions.resolve(token)).user == user
    await ended(edge)
    for each in (token, *others):
        with pytest.raises(ApiError):
            await sessions.resolve(each)
    assert not sessions._owners
