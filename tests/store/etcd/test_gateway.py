"""Failures of single endpoints, with simulated ones that fail on purpose."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest
from tests.support.simulated.endpoints import Behaviour, Request, answer, client, endpoint, refuse

from openvcha.store import keys
from openvcha.store.errors import (
    ClusterUnhealthy,
    LearnerNotReady,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
)
from openvcha.store.etcd.client import Etcd
from openvcha.store.etcd.gateway import Gateway
from openvcha.store.etcd.watch import Watch
from openvcha.store.etcd.wire import prefix_end
from openvcha.store.interface import Put


async def hang_up(request: Request) -> None:
    """Close without an answer."""
    request.writer.close()


async def hang(request: Request) -> None:
    """Never answer, until the client gives up."""
    await request.reader.read()


FINE = answer(200, {"header": {"revision": "7"}})
EVENT = answer(
    200,
    {
        "result": {
            "header": {"revision": "9"},
            "events": [{"kv": {"key": b64encode(b"a").decode(), "mod_revision": "5"}}],
        }
    },
)
NOWHERE = "http://127.0.0.1:1"


async def begin_watch(request: Request) -> None:
    """Write the response of a watch created at revision 4."""
    request.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    request.writer.write(b'{"result":{"header":{"revision":"4"},"created":true}}\n')
    await request.writer.drain()


async def test_dead_endpoint_is_passed_over_and_remembered() -> None:
    """Reads and writes move to the next endpoint, and the one that answered is tried first then."""
    async with client(NOWHERE, FINE) as etcd:
        alive = etcd.endpoints[1]
        assert await etcd.put("a", b"") == 7
        assert etcd.endpoints == (alive, NOWHERE)
        assert await etcd.get("a") is None


@pytest.mark.parametrize(
    "broken", [hang_up, hang, refuse(14, "etcdserver: request timed out"), refuse(2, "odd", 500)]
)
async def test_lost_answer_of_a_write_is_unknown(broken: Behaviour) -> None:
    """A write whose outcome is unknown is never sent again, and never reported as failed."""
    writes: list[Callable[[Etcd], Awaitable[object]]] = [
        lambda etcd: etcd.put("a", b""),
        lambda etcd: etcd.delete("a"),
        lambda etcd: etcd.txn([], [Put("a", b"")]),
        lambda etcd: etcd.member_remove(1),
    ]

    async def attempt(write: Callable[[Etcd], Awaitable[object]]) -> None:
        async with client(broken, FINE, patience=0.3) as etcd:
            with pytest.raises(OutcomeUnknown):
                await write(etcd)
            assert await etcd.get("a") is None  # the next request goes elsewhere

    await asyncio.gather(*map(attempt, writes))


@pytest.mark.parametrize(
    "broken", [hang_up, refuse(14, "etcdserver: leader changed"), refuse(2, "odd", 500)]
)
async def test_reads_are_asked_again(broken: Behaviour) -> None:
    """A read, or an idempotent request, is retried elsewhere at once."""
    async with client(broken, FINE) as etcd:
        assert await etcd.get("a") is None
    async with client(broken, answer(200, {"header": {}, "ID": "12"})) as etcd:
        assert await etcd.lease_grant(5) == 12


@pytest.mark.parametrize(
    "message",
    [
        "etcdserver: rpc not supported for learner",
        "etcdserver: no leader",
        'connection error: desc = "transport: Error while dialing dial tcp: connection refused"',
    ],
)
async def test_writes_go_on_after_a_sure_refusal(message: str) -> None:
    """A refusal before anything was proposed lets a write try the next endpoint."""
    async with client(refuse(14, message), FINE) as etcd:
        assert await etcd.put("a", b"") == 7


async def test_what_is_remembered_is_asked_of_who_has_just_caught_up() -> None:
    """Two endpoints for the two parts of an observation would mix different moments."""
    asked: list[str] = []

    def part(name: str, fails: str = "") -> Behaviour:
        async def behave(request: Request) -> None:
            asked.append(f"{name} {request.path}")
            await (hang_up if request.path == fails else FINE)(request)

        return behave

    behind = part("behind", fails="/v3/cluster/member/list")
    async with client(behind, part("well")) as etcd:
        assert await etcd.get_many_and_members([]) == ([], [])
    each = ["/v3/kv/txn", "/v3/cluster/member/list"]
    assert asked == [f"{name} {path}" for name in ("behind", "well") for path in each]


async def test_refusals_are_final() -> None:
    """What the store refuses for good is not retried elsewhere."""
    async with client(refuse(3, "etcdserver: key is not provided", 400), FINE) as etcd:
        with pytest.raises(StoreError, match="key is not provided") as caught:
            await etcd.put("", b"")
        assert not isinstance(caught.value, StoreUnavailable)
        assert caught.value.code == 3


async def test_refusals_of_membership() -> None:
    """An unhealthy cluster is waited for until the deadline; a lagging learner is reported."""
    async with client(refuse(14, "etcdserver: unhealthy cluster"), patience=0.2) as etcd:
        with pytest.raises(ClusterUnhealthy):
            await etcd.member_add(["http://127.0.0.1:2"])
    lag = "etcdserver: can only promote a learner member which is in sync with leader"
    async with client(refuse(9, lag, 412)) as etcd:
        with pytest.raises(LearnerNotReady):
            await etcd.member_promote(1)


@pytest.mark.parametrize("broken", [hang, hang_up, NOWHERE])
async def test_deadline(broken: Behaviour | str) -> None:
    """When no endpoint answers, a read ends at its deadline and says why.

    The first one is always tried; how many of the others depends on the machine's load.
    """
    async with client(NOWHERE, broken, patience=0.4) as etcd:
        async with asyncio.timeout(30):
            with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1: NotSentError"):
                await etcd.get("a")
        assert not await etcd.healthy(etcd.endpoints[0], 0.2)


async def test_who_has_just_answered_is_not_asked_whether_it_is_well() -> None:
    """One that answered earlier, from local state only, or not at all is asked."""
    pages: list[str] = []

    async def member(request: Request) -> None:
        if request.path.startswith("/health"):
            pages.append(request.path)
            await answer(200, {"health": "false"})(request)
        else:
            await FINE(request)

    async with client(member, hang_up) as etcd:
        (asked, other), now = etcd.endpoints, asyncio.get_running_loop().time
        begun = now()
        assert not await etcd.healthy(asked, 30.0, since=begun)
        await etcd.members(local=True)
        assert not await etcd.healthy(asked, 30.0, since=begun)
        await etcd.get("a")
        assert await etcd.healthy(asked, 30.0, since=begun)
        assert not await etcd.healthy(other, 30.0, since=begun)
        assert not await etcd.healthy(asked, 30.0)
        assert not await etcd.healthy(asked, 30.0, since=now())
    assert len(pages) == 4


async def test_silent_watch_is_left() -> None:
    """A watch at an endpoint that went silent, and has no quorum, moves elsewhere."""

    async def silent(request: Request) -> None:
        if request.path == "/v3/watch":
            await begin_watch(request)
        await hang(request)

    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(endpoint(one)) for one in (silent, EVENT)]
        etcd = await stack.enter_async_context(Etcd(urls, None, silence=0.05))
        changes = await stack.enter_async_context(aclosing(etcd.watch("a")))
        async with asyncio.timeout(30):
            events = await anext(changes)
    assert [one.kv.mod_revision for one in events] == [5]


async def test_whoever_answers_with_a_quorum_is_in_touch() -> None:
    """From the time of the request; local reads and errors do not count."""
    clock = asyncio.get_running_loop().time

    async def behave(request: Request) -> None:
        if request.path != "/v3/cluster/member/list":
            await asyncio.sleep(0.1)
        await FINE(request)

    async with client(behave) as etcd, client(hang_up, patience=0.2) as other:
        gateway, (url,) = etcd._gateway, etcd.endpoints
        began = clock()
        await etcd.members(local=True)
        assert not gateway.had_quorum_since(url, began)
        await etcd.get("a")
        assert gateway.had_quorum_since(url, began)
        assert not gateway.had_quorum_since(url, clock())
        began = clock()
        await etcd.put("a", b"")
        assert not gateway.had_quorum_since(url, began), "a put alone is none of the reads"
        with pytest.raises(StoreUnavailable):
            await other.get("a")
        assert not other._gateway.had_quorum_since(other.endpoints[0], 0.0)


async def test_a_watch_asks_nothing_that_others_have_just_asked() -> None:
    """Each linearizable read proves its endpoint to all watches of the process, for a time."""
    asked: list[str] = []
    since: list[float] = []

    class Proven(Gateway):
        proven = True

        def had_quorum_since(self, endpoint: str, since_: float) -> bool:
            del endpoint
            since.append(since_)
            return self.proven

        async def request_from(self, endpoint: str, *_: Any) -> Any:
            asked.append(endpoint)

    gateway, now = Proven([NOWHERE], None, 1.0), asyncio.get_running_loop().time
    watch = Watch(gateway, "a", 0, silence=2.0)
    await watch._check(NOWHERE)
    assert asked == []
    gateway.proven = False
    await watch._check(NOWHERE)
    assert asked == [NOWHERE]
    assert since[0] < now() - 2.0, "one read every two seconds is enough"


@pytest.mark.parametrize(("wanted", "after"), [(2, 2), (0, 5)])
async def test_broken_watch_goes_on_where_it_was(wanted: int, after: int) -> None:
    """A created watch may still have events to deliver, unless it began at the current revision."""
    asked: list[int] = []

    async def breaks(request: Request) -> None:
        asked.append(json.loads(request.body)["create_request"]["start_revision"])
        await begin_watch(request)

    async def works(request: Request) -> None:
        asked.append(json.loads(request.body)["create_request"]["start_revision"])
        await EVENT(request)

    async with client(breaks, works) as etcd, aclosing(etcd.watch("a", wanted)) as changes:
        async with asyncio.timeout(30):
            await anext(changes)
    assert asked == [wanted, after]


def test_only_an_endpoint_is_preferred() -> None:
    """Whoever is none receives no account."""
    etcd = Etcd(["http://a", "http://b", "http://c"], None)
    etcd.prefer("http://c")
    etcd.prefer("http://d")
    assert etcd.endpoints == ("http://c", "http://a", "http://b")


def test_endpoints_are_checked() -> None:
    """No endpoint at all, or TLS without its context, is refused at once."""
    with pytest.raises(ValueError, match="no store endpoint"):
        Etcd([], None)
    with pytest.raises(ValueError, match="TLS"):
        Etcd(["https://127.0.0.1:2379"], None)


def test_end_of_a_prefix() -> None:
    """The end of a prefix is the first key after it, even if its last byte is 255."""
    assert prefix_end(b"/a/") == b"/a0"
    assert prefix_end(b"a\xff") == b"b"
    assert prefix_end(b"\xff") == b"\0"
    assert prefix_end(b"") == b"\0"


def test_names_stay_inside_their_key() -> None:
    """No name leads to another's keys."""
    assert keys.user("a/../b") == "/openvcha/users/a%2F..%2Fb"
    assert keys.user("administrator@vsphere.local") == keys.USERS + "administrator@vsphere.local"
    assert keys.base_backup_report("m-1") == "/openvcha/nodes/m-1/copy"
    assert keys.PATRONI_LEADER == "/openvcha/patroni/cluster/leader"
