"""Concurrent calls: their limits, fair shares, and refusals."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import pytest
from tests.support.edge import ADMINISTRATOR, PASSWORD, READER, Edge, make_edge
from tests.support.jsonrpc import EMPTY, invocation

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api_server import concurrency
from openvcha.api_server.auth.users import MAX_ATTEMPTS
from openvcha.api_server.concurrency import (
    ANONYMOUS,
    LOOKUPS,
    RETRY_SECONDS,
    USERS,
    ConcurrencyLimit,
    SlotPool,
    part_of,
)

ATTACKER, OFFICE = "203.0.113.99", "198.51.100.7"
READ = "/api/vcenter/vcha/operations"
LIST = "/api/cis/tasks?action=list"
JOIN = "/api/openvcha/joins"
SESSION = "vmware-api-session-id"
LITTLE = ConcurrencyLimit(max_concurrent=3, max_per_owner=2, waiting=2, seconds=30.0)


@dataclass
class Held:
    """A SIMULATED dispatcher that holds a user's calls until it is released."""

    user: str
    inner: Any
    go: asyncio.Event = field(default_factory=asyncio.Event)
    inside: int = 0
    most: int = 0

    async def invoke(self, operation: Any, arguments: Any, caller: Any) -> Any:
        if caller.user != self.user:
            return await self.inner.invoke(operation, arguments, caller)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.go.wait()
        finally:
            self.inside -= 1
        return await self.inner.invoke(operation, arguments, caller)


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """Return an edge whose queue waits for as long as the machine is busy."""
    made = await make_edge()
    for places in vars(pipeline(made)._in_flight).values():
        places._limit = replace(places._limit, seconds=600.0)
    async with made.client:
        yield made


def pipeline(edge: Edge) -> Any:
    """Return the pipeline that all protocols share."""
    return edge.pipeline


def hold(edge: Edge, user: str) -> Held:
    """Hold a user's calls from now on."""
    held = pipeline(edge)._dispatcher = Held(user, edge.dispatcher)
    return held


async def settled(tasks: list[asyncio.Task[Any]], left: int) -> None:
    """Wait until all but ``left`` of the tasks have ended."""
    pending = set(tasks)
    async with asyncio.timeout(120):
        while len(pending) > left:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


async def test_one_user_takes_not_all_the_places(edge: Edge) -> None:
    """Some of a reader's calls are running, some wait, the others are told to come back."""
    held, header = hold(edge, READER), await edge.headers(READER)
    reads = [asyncio.create_task(edge.client.get(READ, headers=header)) for _ in range(200)]
    admitted = USERS.max_per_owner + USERS.waiting
    await settled(reads, admitted)
    assert (await edge.client.get(READ, headers=await edge.headers())).status_code == 200
    assert (await edge.client.post("/api/session", auth=(ADMINISTRATOR, PASSWORD))).is_success
    held.go.set()
    answers = [await read for read in reads]
    assert held.most == USERS.max_per_owner
    assert [answer.status_code for answer in answers].count(200) == admitted
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == str(RETRY_SECONDS)
    assert refused.json()["error_type"] == "SERVICE_UNAVAILABLE"


async def test_bodies_are_decoded_only_with_a_place(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing a long one takes more than most calls."""
    held, header = hold(edge, READER), await edge.headers(READER)
    decoded = 0

    async def noted(_: int, read: Any, *args: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return read(*args)

    monkeypatch.setattr("openvcha.api_server.rest.off_loop_if_large", noted)
    posts = [
        asyncio.create_task(edge.client.post(LIST, json={}, headers=header)) for _ in range(100)
    ]
    await settled(posts, USERS.max_per_owner + USERS.waiting)
    assert decoded == USERS.max_per_owner
    held.go.set()
    await asyncio.gather(*posts)
    assert decoded == USERS.max_per_owner + USERS.waiting


async def test_strangers_take_no_place_of_who_has_a_session(edge: Edge) -> None:
    """Only a few calls without a session run at once."""
    held = hold(edge, "anonymous")
    spec = {"token": "t", "role": "PASSIVE", "name": "n", "ha_address": "h"}
    spec |= {"certificate_request": "c"}
    joins = [asyncio.create_task(edge.client.post(JOIN, json=spec)) for _ in range(100)]
    share = concurrency.ANONYMOUS
    await settled(joins, share.max_per_owner + share.waiting)
    assert (await edge.client.get(READ, headers=await edge.headers())).status_code == 200
    held.go.set()
    await asyncio.gather(*joins)
    assert held.most == share.max_per_owner


async def test_the_refusal_has_the_form_of_its_protocol(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REST, legacy REST, JSON-RPC; each with the time to wait."""

    def full(*_: Any) -> Any:
        raise concurrency._busy()

    monkeypatch.setattr(SlotPool, "take", full)
    header = await edge.headers()
    answers = [
        await edge.client.get(READ, headers=header),
        await edge.client.get(READ.replace("/api", "/rest"), headers=header),
        await edge.client.post("/api", json=invocation(given=EMPTY), headers=header),
    ]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    bodies = [answer.json() for answer in answers]
    assert bodies[0]["messages"][0]["id"].endswith("server.busy")
    assert bodies[1]["value"]["messages"][0]["id"].endswith("server.busy")
    error = bodies[2]["result"]["error"]["ERROR"]
    assert list(error) == ["com.vmware.vapi.std.errors.service_unavailable"]
    assert {answer.headers["retry-after"] for answer in answers} == {str(RETRY_SECONDS)}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Hold slots until the end of a test."""
    async with AsyncExitStack() as made:
        yield made


async def test_one_owner_waits_for_his_own_places_only(stack: AsyncExitStack) -> None:
    """Another gets the last slot of all; a third waits for any slot."""
    places = SlotPool(LITTLE)
    async with AsyncExitStack() as first:
        for _ in range(LITTLE.max_per_owner):
            await first.enter_async_context(places.take("a"))
        waits = [asyncio.create_task(places.take("a").__aenter__()) for _ in range(LITTLE.waiting)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as caught:
            async with places.take("a"):
                pass
        assert caught.value.error_type is ErrorType.SERVICE_UNAVAILABLE
        await stack.enter_async_context(places.take("b"))
        third = asyncio.create_task(stack.enter_async_context(places.take("c")))
        await asyncio.sleep(0)
        assert not third.done()
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
    await third


@pytest.mark.parametrize("workers", [1, 2, 4, 16])
@pytest.mark.parametrize("limit", [LOOKUPS, USERS, ANONYMOUS])
def test_a_worker_has_its_part_of_the_slots(limit: ConcurrencyLimit, workers: int) -> None:
    """But no owner has fewer than otherwise, and none can take all of a worker's."""
    part = part_of(limit, workers)
    assert replace(part, max_concurrent=limit.max_concurrent) == limit
    assert part.max_concurrent >= 2 * part.max_per_owner
    even = limit.max_concurrent / workers
    assert part.max_concurrent == max(even, 2 * part.max_per_owner)


async def test_nobody_waits_for_ever() -> None:
    """A caller that has waited too long gets an error, and holds no slot."""
    places = SlotPool(ConcurrencyLimit(1, 1, 1, 0.01))
    async with places.take("a"):
        for owner in "ab":
            with pytest.raises(ApiError):
                async with places.take(owner):
                    pass
    assert (places._counts, places._by_owner) == ({}, {})
    async with places.take("b"):
        pass


async def test_a_place_is_given_back_by_who_goes_away() -> None:
    """While it waits, and when its turn has just come."""
    places = SlotPool(ConcurrencyLimit(1, 1, 2, 30.0))
    first = places.take("a")
    await first.__aenter__()
    waits = [asyncio.create_task(places.take("b").__aenter__()) for _ in range(2)]
    await asyncio.sleep(0)
    waits[0].cancel()
    await asyncio.wait([waits[0]])
    await first.__aexit__(None, None, None)
    waits[1].cancel()
    await asyncio.wait(waits)
    async with asyncio.timeout(30), places.take("c"):
        pass
    assert (places._counts, places._by_owner) == ({}, {})


async def test_a_token_that_is_only_there_takes_no_place_of_a_session(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invalid ones share their source's lookups; callers with a session use other slots."""
    looked_up, go = edge.sessions.resolve, asyncio.Event()
    own = await edge.headers()

    async def resolve(token: Any) -> Any:
        if token.reveal() != own[SESSION]:
            await go.wait()
        return await looked_up(token)

    monkeypatch.setattr(edge.sessions, "resolve", resolve)
    made_up = {SESSION: "f" * 64}
    calls = [asyncio.create_task(edge.client.get(READ, headers=made_up)) for _ in range(200)]
    await settled(calls, LOOKUPS.max_per_owner + LOOKUPS.waiting)
    transport = httpx2.ASGITransport(app=edge.app, client=("198.51.100.7", 1))
    async with httpx2.AsyncClient(transport=transport, base_url="https://testserver") as other:
        assert (await other.get(READ, headers=own)).status_code == 200
    go.set()
    answers = [(await call).status_code for call in calls]
    assert set(answers) == {401, 503}
    assert answers.count(401) == LOOKUPS.max_per_owner + LOOKUPS.waiting


@dataclass
class Crowd:
    """Requests with wrong passwords from many addresses, whose verification does not end."""

    edge: Edge
    go: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[asyncio.Task[int]] = field(default_factory=list)

    def hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hold the verification of wrong passwords."""
        verify = self.edge.users._passwords.verify

        async def held(known: Any, password: str, *, source: str | None = None) -> bool:
            if password == "wrong":
                await self.go.wait()
            return await verify(known, password, source=source)

        monkeypatch.setattr(self.edge.users._passwords, "verify", held)

    def send(self, count: int, address: str, name: str = "made-up-{}", **more: Any) -> None:
        """Begin this many requests from an address."""
        for number in range(count):
            auth = name.format(number), "wrong"
            self.calls.append(asyncio.create_task(status(self.edge, address, auth, **more)))

    async def end(self) -> Counter[int]:
        """Let the verifications end; return how many responses had each status."""
        self.go.set()
        return Counter([await call for call in self.calls])


async def status(edge: Edge, address: str, auth: tuple[str, str], **more: Any) -> int:
    """Return the status of a log-in from an address."""
    transport = httpx2.ASGITransport(app=edge.app, client=(address, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="https://testserver") as client:
        return int((await client.post("/api/session", auth=auth, **more)).status_code)


@pytest.fixture
async def attackers(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Crowd]:
    """Return a crowd that ends with the test."""
    made = Crowd(edge)
    made.hold(monkeypatch)
    yield made
    await made.end()


async def test_log_ins_that_wait_are_bounded(edge: Edge, attackers: Crowd) -> None:
    """By source, also those that bring a token besides."""
    attackers.send(100, ATTACKER, headers={SESSION: "f" * 64})
    await settled(attackers.calls, MAX_ATTEMPTS)
    assert (await edge.client.get(READ, headers=await edge.headers())).status_code == 200
    assert (await attackers.end())[503] >= 100 - MAX_ATTEMPTS


@pytest.mark.parametrize("name", ["made-up-{}", ADMINISTRATOR])
async def test_a_crowd_of_addresses_keeps_out_nobody_who_is_known(
    edge: Edge, attackers: Crowd, name: str
) -> None:
    """Neither with remembered credentials nor with a password to verify, from any address."""
    own = ADMINISTRATOR, PASSWORD
    assert await status(edge, OFFICE, own) == 201
    for number in range(8):
        attackers.send(40, f"203.0.113.{number}", name)
    attackers.send(40, OFFICE)
    await settled(attackers.calls, 9 * MAX_ATTEMPTS)
    assert await status(edge, OFFICE, own) == 201
    assert await status(edge, ATTACKER, own) == 201  # remembered, although from elsewhere
    edge.clock.advance(minutes=2)
    assert await status(edge, OFFICE, own) == 201
    assert not any(call.done() and call.result() == 201 for call in attackers.calls)


async def test_who_waits_for_a_turn_takes_no_place_of_another_name(edge: Edge) -> None:
    """Attempts for one name wait for each other, before they count as verifications."""
    own = ADMINISTRATOR, PASSWORD
    assert await status(edge, OFFICE, own) == 201
    edge.clock.advance(minutes=2)
    async with edge.users._exclusive_attempt(OFFICE, "held"):
        waits = [asyncio.create_task(status(edge, OFFICE, ("held", "x"))) for _ in range(40)]
        await settled(waits, MAX_ATTEMPTS - 1)
        assert await status(edge, OFFICE, own) == 201
    assert Counter([await wait for wait in waits])[503] >= 40 - MAX_ATTEMPTS
    assert not edge.users._attempts
