"""Wrong passwords: trying them locks out no other user, and costs a bounded share."""

import asyncio
import os
import sys
import threading
import unicodedata
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Literal

import pytest
from argon2 import PasswordHasher
from tests.support.edge import ADMINISTRATOR, NOBODY, PASSWORD, READER, Edge, make_edge

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.secret import Secret
from openvcha.api_server.auth.password_queue import (
    INITIAL_ESTIMATE_SECONDS,
    MAX_CONCURRENT,
    MAX_UNKNOWN_CONCURRENT,
    MAX_WAIT_SECONDS,
    MAX_WAITING,
    MAX_WAITING_PER_SOURCE,
    PasswordQueue,
    QueueFull,
)
from openvcha.api_server.auth.passwords import NICENESS, Passwords
from openvcha.api_server.auth.throttle import (
    FREE_ATTEMPTS,
    MAX_KNOWN_SOURCES,
    MAX_KNOWN_SOURCES_PER_USER,
    MAX_SOURCES,
    NAME_BUCKETS_PER_SOURCE,
    LoginAttempt,
    Throttle,
)
from openvcha.store import keys

ATTACKER, OFFICE = "203.0.113.9", "198.51.100.7"
WRONG, RIGHT = Secret("wrong-password"), Secret(PASSWORD)
READ = "/api/vcenter/vcha/operations"
PATIENCE = 60.0


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """Return an edge with an administrator, a reader and a user without access."""
    made = await make_edge()
    async with made.client:
        yield made


async def refused(edge: Edge, name: str, origin: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await edge.users.verify(name, WRONG, origin)
    return caught.value


@pytest.mark.parametrize("network", [ATTACKER, "2001:db8:1:2::{}"])
async def test_nobody_is_kept_out_from_elsewhere(edge: Edge, network: str) -> None:
    """Not even by an attacker who never stops; his IPv6 network counts as one source."""
    for number in range(20):
        error = await refused(edge, ADMINISTRATOR, network.format(number))
    assert error.messages[1].id.endswith("users.throttled")
    await edge.users.verify(ADMINISTRATOR, RIGHT, OFFICE)


async def test_who_has_logged_in_from_there_is_held_up_by_no_other(edge: Edge) -> None:
    """Although all share one address and try every name there is."""
    await edge.users.verify(ADMINISTRATOR, RIGHT, OFFICE)
    edge.clock.advance(minutes=2)
    for number in range(1000):
        await refused(edge, f"made-up-{number}", OFFICE)
    for _ in range(9):
        await refused(edge, READER, OFFICE)
    await edge.users.verify(ADMINISTRATOR, RIGHT, OFFICE)


async def test_the_wait_is_told_in_the_answer(edge: Edge) -> None:
    """As the standard error, and as HTTP's own header; by JSON-RPC too."""
    for _ in range(5):
        assert (await edge.client.get(READ, auth=(READER, "wrong"))).status_code == 401
    reply = await edge.client.get(READ, auth=(READER, PASSWORD))
    assert (reply.status_code, reply.headers["retry-after"]) == (401, "5")
    assert reply.json()["error_type"] == "UNAUTHENTICATED"
    context = {"schemeId": "user_pass", "userName": READER, "password": PASSWORD}
    call = {
        "serviceId": "com.vmware.vcenter.vcha.operations",
        "operationId": "get",
        "input": {"STRUCTURE": {"operation-input": {}}},
        "ctx": {"securityCtx": context},
    }
    body = {"jsonrpc": "2.0", "id": "1", "method": "invoke", "params": call}
    assert (await edge.client.post("/api", json=body)).headers["retry-after"] == "5"


async def test_failures_write_nothing_into_the_store(edge: Edge) -> None:
    """Whatever names are made up."""
    before = edge.store.revision
    for number in range(200):
        await refused(edge, f"made-up-{number}", ATTACKER)
        await refused(edge, ADMINISTRATOR, f"10.0.0.{number}")
    assert edge.store.revision == before
    assert not [kv for kv in await edge.store.prefix(keys.ROOT) if "login" in kv.key]


def test_the_table_has_a_bound() -> None:
    """A hundred thousand names from thousands of addresses, one of a megabyte."""
    throttle = Throttle()
    for number in range(100_000):
        throttle.failed(LoginAttempt(f"10.0.{number % 3000}", f"name-{number}", None))
    throttle.failed(LoginAttempt("huge", "x" * 1_000_000, None))
    assert len(throttle._sources) == MAX_SOURCES
    assert max(len(names) for names in throttle._sources.values()) <= NAME_BUCKETS_PER_SOURCE
    assert "x" * 1000 not in repr(throttle._sources)
    for number in range(2000):
        throttle.succeeded(LoginAttempt(f"10.1.{number}", "nobody", "g"))
        throttle.succeeded(LoginAttempt("10.2.1", f"user-{number}", "g"))
    assert len(throttle._known) <= MAX_KNOWN_SOURCES
    assert sum(throttle.knows(f"10.1.{number}", "nobody") for number in range(2000)) <= (
        MAX_KNOWN_SOURCES_PER_USER
    )
    assert sys.getsizeof(throttle._known) < 1 << 20


async def test_more_names_bring_no_more_tries(edge: Edge) -> None:
    """Made-up names evict no count: within one source they share counts with the real names."""
    for _ in range(5):
        await refused(edge, ADMINISTRATOR, ATTACKER)
    for number in range(2000):
        await refused(edge, f"made-up-{number}", ATTACKER)
    assert len((await refused(edge, ADMINISTRATOR, ATTACKER)).messages) == 2


@pytest.mark.parametrize("own", [0, 1, 2])
def test_a_log_in_resets_only_the_failures_for_its_own_name(
    monkeypatch: pytest.MonkeyPatch, own: int
) -> None:
    """Otherwise a user could try any number of passwords of others who share its count."""
    throttle = Throttle()
    monkeypatch.setattr(throttle, "_bucket", lambda _: 0)  # all names share one count
    user, other = (LoginAttempt(ATTACKER, name, "g") for name in ("user", "other"))
    for _ in range(FREE_ATTEMPTS - own):
        throttle.failed(other)
    for _ in range(own):
        throttle.failed(user)
    throttle.succeeded(user)
    with pytest.raises(ApiError):
        throttle.check(other)


def test_a_log_in_resets_the_failures_for_its_name() -> None:
    """From the first one on."""
    throttle, user = Throttle(), LoginAttempt(ATTACKER, "user", "g")
    for _ in range(FREE_ATTEMPTS):
        throttle.failed(user)
    throttle.succeeded(user)
    throttle.check(user)
    assert throttle._sources[ATTACKER] == {}


@pytest.mark.looptime
async def test_one_source_takes_not_all_the_places() -> None:
    """Of a thousand some wait, the others are told to come back; known sources go first."""
    turns, order = PasswordQueue(), list[str]()
    go_on = asyncio.Event()

    async def looked_at(source: str | None) -> bool:
        try:
            async with turns.slot(source):
                order.append(source or "known")
                await go_on.wait()
        except QueueFull:
            return False
        return True

    attack = [asyncio.create_task(looked_at(ATTACKER)) for _ in range(1000)]
    await asyncio.sleep(0)
    others = [asyncio.create_task(looked_at(f"10.0.0.{n}")) for n in range(1000)]
    await asyncio.sleep(0)
    known = asyncio.create_task(looked_at(None))
    await asyncio.sleep(0)
    go_on.set()
    assert await known
    assert sum([await each for each in attack]) == MAX_UNKNOWN_CONCURRENT + MAX_WAITING_PER_SOURCE
    served = sum([await each for each in others])
    assert 1 < served <= MAX_WAITING
    assert served <= MAX_WAIT_SECONDS / INITIAL_ESTIMATE_SECONDS + 1
    assert order.index("known") == MAX_UNKNOWN_CONCURRENT
    assert is_free(turns)


@pytest.mark.looptime
async def test_a_place_is_given_back_by_who_goes_away() -> None:
    """Before and after its turn has come."""
    turns = PasswordQueue()
    async with turns.slot("a"):
        waits = [asyncio.create_task(turns.slot(name).__aenter__()) for name in "cd"]
        await asyncio.sleep(0)
        waits[0].cancel()
        await asyncio.wait([waits[0]])
    waits[1].cancel()
    await asyncio.wait(waits)
    assert is_free(turns)


@pytest.mark.parametrize("mark", ["x", "\u0316\u0301"])
async def test_a_long_name_costs_no_more_than_an_unknown_one(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    """Normalizing 30 kB of accents takes seconds; the response does not differ."""
    lengths, normalize = list[int](), unicodedata.normalize

    def noted(form: Literal["NFC"], text: str) -> str:
        lengths.append(len(text))
        return normalize(form, text)

    monkeypatch.setattr(unicodedata, "normalize", noted)
    long, unknown = f"a{mark * 5000}", "a-name-that-nobody-has"
    replies = [await edge.client.get(READ, auth=(name, "wrong")) for name in (long, unknown)]
    assert [reply.status_code for reply in replies] == [401, 401]
    assert replies[0].content == replies[1].content
    assert lengths == [len(unknown)]
    verified = edge.users._throttle._sources
    assert sum(each.count for names in verified.values() for each in names.values()) == 2


async def test_who_hangs_up_keeps_his_place_until_the_look_has_ended() -> None:
    """A thread cannot be stopped: otherwise disconnecting would allow any number to run at once."""
    running, most, go_on = set[int](), list[int](), threading.Event()
    begun, loop = asyncio.Semaphore(0), asyncio.get_running_loop()

    class Slow(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002, ARG002 - argon2's names
            running.add(threading.get_ident())
            most.append(len(running))
            loop.call_soon_threadsafe(begun.release)
            go_on.wait(60)
            running.discard(threading.get_ident())
            return True

    passwords = Passwords(Slow(time_cost=1, memory_cost=8, parallelism=1))
    calls = [asyncio.create_task(passwords.verify("x", "y")) for _ in range(8)]
    for _ in range(MAX_CONCURRENT):
        await begun.acquire()
    for call in calls:
        for _ in range(3):  # a waiting caller may be cancelled more than once
            call.cancel()
            await asyncio.sleep(0)
    known = asyncio.create_task(passwords.verify("x", "y"))
    await asyncio.sleep(0.05)
    go_on.set()
    assert await known
    await asyncio.wait(calls)
    assert all(call.cancelled() for call in calls)
    assert max(most) == MAX_CONCURRENT
    assert is_free(passwords._queue)


def is_free(turns: PasswordQueue) -> bool:
    """Return whether no slot is taken and no caller waits."""
    return (turns._free, turns._unknown, turns._fair_queue._queues) == (MAX_CONCURRENT, 0, {})


async def test_looking_at_a_password_gives_way_to_all_else() -> None:
    """By the thread's own niceness: the loop's does not change."""
    own, seen = os.getpriority(os.PRIO_PROCESS, 0), list[int]()

    class Watched(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002, ARG002 - argon2's names
            seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            return True

    passwords = Passwords(Watched(time_cost=1, memory_cost=8, parallelism=1))
    for _ in range(3):
        assert await passwords.verify("x", "y")
    assert set(seen) == {min(own + NICENESS, 19)}
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


async def test_a_password_takes_one_thread() -> None:
    """Argon2's own lanes would add as many threads beside the loop for each password."""
    known = await Passwords().hash("a-password")
    assert known.startswith("$argon2id$")
    assert "p=1$" in known


@pytest.mark.looptime
async def test_sources_take_turns() -> None:
    """A source not yet served goes before one that keeps coming and was served last."""
    turns, order = PasswordQueue(), list[str]()

    async def looked_at(source: str) -> None:
        async with turns.slot(source):
            order.append(source)
            await asyncio.sleep(0)

    crowd = [looked_at(ATTACKER) for _ in range(MAX_WAITING_PER_SOURCE)]
    calls = [asyncio.create_task(call) for call in (*crowd, looked_at(OFFICE))]
    await asyncio.gather(*calls)
    assert order == [ATTACKER, OFFICE, *[ATTACKER] * (MAX_WAITING_PER_SOURCE - 1)]


def fast_queue() -> PasswordQueue:
    """Return a queue on a machine so fast that as many may wait as there are places."""
    turns = PasswordQueue()
    turns._seconds = MAX_WAIT_SECONDS / MAX_WAITING / 2
    return turns


@pytest.mark.looptime
async def test_a_full_queue_has_a_place_for_one_who_was_not_served() -> None:
    """The last request of a source with many gives way to it; its turn is next."""
    turns, order = fast_queue(), list[str]()

    async def verified(source: str) -> bool:
        try:
            async with turns.slot(source):
                order.append(source)
        except QueueFull:
            return False
        return True

    crowd = [f"10.0.0.{number}" for number in range(MAX_WAITING // MAX_WAITING_PER_SOURCE)]
    for source in crowd:
        assert await verified(source)
    order.clear()
    async with turns.slot("10.0.1.1"):
        calls = [
            asyncio.create_task(verified(source))
            for source in crowd
            for _ in range(MAX_WAITING_PER_SOURCE)
        ]
        await asyncio.sleep(0)
        late = [asyncio.create_task(verified(source)) for source in (OFFICE, crowd[0])]
        await asyncio.sleep(0)
    assert [await each for each in late] == [True, False]
    assert order[0] == OFFICE
    assert sum([await call for call in calls]) == MAX_WAITING - 1
    assert is_free(turns)


@pytest.mark.looptime
async def test_who_gave_way_holds_no_slot() -> None:
    """Not even if the client disconnects in the same moment."""
    turns = fast_queue()
    async with turns.slot("10.0.1.1"):
        calls = [
            asyncio.create_task(turns.slot(f"10.0.0.{number // 4}").__aenter__())
            for number in range(MAX_WAITING)
        ]
        await asyncio.sleep(0)
        late = asyncio.create_task(turns.slot(OFFICE).__aenter__())
        waits = [wait for queue in turns._fair_queue._queues.values() for wait in queue]
        await asyncio.sleep(0)
        assert [wait.result() for wait in waits if wait.done()] == [False]
        for call in (*calls, late):
            call.cancel()
        await asyncio.wait([*calls, late])
    assert is_free(turns)


@pytest.mark.looptime
async def test_whose_turn_would_come_too_late_is_refused_at_once() -> None:
    """The time per password is learned; a caller is not queued only to time out.

    A source not yet served is queued anyway: otherwise a permanent crowd would always be refused
    first.
    """
    turns = PasswordQueue()
    async with turns.slot(ATTACKER):
        await asyncio.sleep(20)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(turns.slot(ATTACKER))
        waiting = asyncio.create_task(turns.slot(ATTACKER).__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await turns.slot(ATTACKER).__aenter__()
        new = asyncio.create_task(turns.slot(OFFICE).__aenter__())
        await asyncio.sleep(0)
        await stack.aclose()
        await new
    assert not waiting.done()
    waiting.cancel()


@pytest.mark.looptime
async def test_nobody_waits_longer_than_the_bound() -> None:
    """Even where the first ones take longer than those before."""
    turns, loop = PasswordQueue(), asyncio.get_running_loop()
    async with turns.slot("slow"):
        begun = loop.time()
        with pytest.raises(QueueFull):
            await turns.slot("second").__aenter__()
        assert loop.time() - begun == MAX_WAIT_SECONDS
    assert is_free(turns)


@pytest.mark.looptime
async def test_known_sources_do_not_wait_for_strangers() -> None:
    """A slot is reserved for them, whatever strangers have begun."""
    turns = PasswordQueue()
    async with turns.slot("a"), asyncio.timeout(PATIENCE):
        waiting = asyncio.create_task(turns.slot("b").__aenter__())
        await asyncio.sleep(0)
        async with turns.slot(None):
            assert not waiting.done()
        waiting.cancel()


@pytest.mark.looptime
async def test_one_name_is_waited_for_no_longer_than_the_bound(edge: Edge) -> None:
    """Attempts for one name from one source run one at a time; the last ones are refused."""
    loop = asyncio.get_running_loop()
    async with edge.users._exclusive_attempt(ATTACKER, NOBODY):
        begun = loop.time()
        error = await refused(edge, NOBODY, ATTACKER)
        assert loop.time() - begun == pytest.approx(MAX_WAIT_SECONDS)
    assert (error.error_type, error.retry_after) == (ErrorType.SERVICE_UNAVAILABLE, 1)


async def test_too_many_at_once_are_told_so(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a time to come back; no user's failures are counted for it."""

    def full(_: PasswordQueue, source: str | None) -> None:
        assert source == ATTACKER
        raise QueueFull

    monkeypatch.setattr(PasswordQueue, "slot", full)
    error = await refused(edge, NOBODY, ATTACKER)
    assert (error.error_type, error.retry_after) == (ErrorType.SERVICE_UNAVAILABLE, 1)
