"""Three real members over TLS: how a client copes when they die, freeze, come and go."""

import asyncio
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from pathlib import Path
from typing import Protocol

import pytest
from tests.support.etcd_servers import make_servers

from openvcha.node.etcd.member import is_healthy
from openvcha.store.errors import (
    LearnerNotReady,
    MemberNotFound,
    NotLearner,
    PeerExists,
    StoreError,
    StoreUnavailable,
)
from openvcha.store.etcd import wire
from openvcha.store.etcd.client import Etcd
from openvcha.store.etcd.gateway import MAX_IDLE, GatewayRequest
from openvcha.store.http.client import TlsSource
from openvcha.store.interface import Event, KeyValue
from openvcha.store.lease import campaign

pytestmark = pytest.mark.engines

PATIENCE_SECONDS = 60.0
SURE_SECONDS = 60.0
"""Until when something must have happened; a busy machine takes its time."""


class Tls(Protocol):
    """The test's certificates."""

    def context(self, *, certificate: bool = True) -> ssl.SSLContext:
        """Create a client's context."""

    def source(self) -> TlsSource:
        """Return the same context every time."""


class Server(Protocol):
    """A member, as the fixture provides it."""

    name: str
    directory: Path
    tls: Tls
    url: str
    peer_url: str
    process: subprocess.Popen[bytes] | None

    def start(self, initial: Sequence["Server"], state: str = "new") -> None:
        """Start it."""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""

    def kill(self) -> None:
        """End it."""


@pytest.fixture
async def patient(servers: list[Server]) -> AsyncIterator[Etcd]:
    """Return a client of the three members with a distant deadline."""
    urls = [server.url for server in servers]
    async with Etcd(urls, servers[0].tls.source(), timeout=PATIENCE_SECONDS) as etcd:
        yield etcd


def current(client: Etcd, servers: list[Server]) -> Server:
    """Return the member that the client talks to."""
    return next(server for server in servers if server.url == client.endpoints[0])


async def test_a_full_member_has_its_majority_and_one_alone_can_be_given_room(
    patient: Etcd, servers: list[Server]
) -> None:
    """etcd calls a member with that alarm unhealthy, and refuses writes until it is disarmed."""
    alone = next(one for one in await patient.members() if one.client_urls == (servers[0].url,))
    assert await patient.members_without_space() == frozenset()
    await patient.put("/full", b"1")
    await alarm(patient, alone.id)
    tls = servers[0].tls.context()
    assert await is_healthy(servers[0].url, tls)
    with pytest.raises(StoreError, match="space exceeded"):
        await patient.put("/full", b"2")
    assert await patient.members_without_space() == {alone.id}
    await patient.reclaim_space(servers[0].url)
    assert await patient.members_without_space() == frozenset()
    await patient.put("/full", b"3")
    await patient.reclaim_space(servers[0].url)


async def alarm(client: Etcd, member: int) -> None:
    """Raise the alarm, as etcd does when a write would exceed its quota."""
    body = {"action": "ACTIVATE", "memberID": member, "alarm": "NOSPACE"}
    await client._gateway.read(GatewayRequest("/v3/maintenance/alarm", body, dict))


async def test_killed_member_is_passed_over(patient: Etcd, servers: list[Server]) -> None:
    """When the member in use dies, requests move to another, well within their deadline."""
    await patient.put("/a", b"1")
    current(patient, servers).kill()
    began = time.monotonic()
    kv = await patient.get("/a")
    assert kv is not None
    await patient.put("/a", b"2")
    assert time.monotonic() - began < PATIENCE_SECONDS / 2


async def test_frozen_member_is_passed_over(patient: Etcd, servers: list[Server]) -> None:
    """A frozen member costs one read at most one timeout, and the next read nothing."""
    await patient.put("/a", b"1")
    frozen = current(patient, servers)
    frozen.signal(signal.SIGSTOP)
    began = time.monotonic()
    assert await patient.get("/a") is not None
    assert time.monotonic() - began < PATIENCE_SECONDS / 2
    assert patient.endpoints[-1] == frozen.url, "it is asked last from now on"


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_watch_loses_nothing(client: Etcd, servers: list[Server], how: str) -> None:
    """When the member dies or freezes during a watch, each event arrives once and in order."""
    start = await client.put("/first", b"") + 1
    seen: list[Event] = []

    async def follow() -> None:
        async with aclosing(client.watch("/w/", start)) as changes:
            async for events in changes:
                seen.extend(events)

    async def some() -> bool:
        return len(seen) > 10

    async def last() -> bool:
        return seen[-1].kv.key == "/w/59"

    watched = current(client, servers)
    other = [server.url for server in servers if server is not watched]
    following = asyncio.create_task(follow())
    async with (
        asyncio.timeout(SURE_SECONDS),
        Etcd(other, watched.tls.source(), timeout=1.5) as writer,
    ):
        for number in range(60):
            if number == 20:
                await _until(some)
                watched.kill() if how == "killed" else watched.signal(signal.SIGSTOP)
            await _put_surely(writer, f"/w/{number}")
        await _until(last)
    following.cancel()
    await asyncio.wait([following])
    order = list(dict.fromkeys(event.kv.key for event in seen))
    assert order == [f"/w/{number}" for number in range(60)]
    revisions = [event.kv.mod_revision for event in seen]
    assert revisions == sorted(set(revisions))


async def test_lost_quorum(client: Etcd, servers: list[Server]) -> None:
    """Without quorum no answer pretends to be certain, and every call ends in time."""
    await client.put("/a", b"1")
    hold = await campaign(client, "/hold", b"", 1)
    left = current(client, servers)
    for server in servers:
        if server is not left:
            server.kill()
    async with Etcd(client.endpoints, left.tls.source(), timeout=0.8) as hasty:
        both = hasty.get_many_and_members(["/a"])
        asked = (hasty.get("/a"), hasty.put("/a", b"2"), hasty.members(), both)
        async with asyncio.timeout(SURE_SECONDS):
            is_healthy = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(one, StoreUnavailable) for one in is_healthy] == [True] * 4, is_healthy
        assert not await hasty.healthy(left.url, 0.5)
        assert len(await hasty.members(local=True)) == 3
        assert (await hasty.status(left.url)).version.startswith("3.")
    async with asyncio.timeout(SURE_SECONDS):
        await hold.lost.wait()
    for server in servers:
        if server is not left:
            server.start(servers)
    kv = await _settled(client)
    assert kv is not None
    assert kv.value in {b"1", b"2"}  # the unacknowledged write may have been kept
    await hold.release()


async def test_members_come_and_go(client: Etcd, servers: list[Server], tmp_path: Path) -> None:
    """A lost member is removed, a new one joins as a learner and becomes a voter."""
    lost = servers[2]
    lost.kill()
    members = {member.name: member for member in await client.members()}
    assert set(members) == {"n1", "n2", "n3"}
    await client.member_remove(members["n3"].id)
    with pytest.raises(MemberNotFound):
        await client.member_remove(members["n3"].id)
    with pytest.raises(PeerExists):
        await client.member_add([servers[0].peer_url])
    with pytest.raises(MemberNotFound):
        await client.member_promote(1)
    with pytest.raises(NotLearner):
        await client.member_promote(members["n1"].id)

    added = await client.member_add([lost.peer_url])
    assert added.learner
    with pytest.raises(LearnerNotReady):
        await client.member_promote(added.id)
    lost.directory = tmp_path / "again"
    lost.start(servers, "existing")
    await _promote(client, added.id)
    found = {member.id: member for member in await client.members()}
    assert set(found) == {members["n1"].id, members["n2"].id, added.id}
    assert not any(member.learner for member in found.values())
    assert set(await client.refresh_endpoints()) == {server.url for server in servers}
    await _until(lambda: client.healthy(lost.url, 1))


async def test_leader_moves(client: Etcd, servers: list[Server]) -> None:
    """The current leader moves leadership to the given member."""
    status = await client.status(servers[0].url)
    members = {member.id: member for member in await client.members()}
    leader = members[status.leader]
    other = next(member for member in members.values() if member.id != leader.id)
    await client.move_leader(leader.client_urls[0], other.id)

    async def moved() -> bool:
        return (await client.status(servers[0].url)).leader == other.id

    await _until(moved)


async def test_client_certificate_is_needed(servers: list[Server]) -> None:
    """A client without a certificate gets no answer."""
    bare = servers[0].tls.context(certificate=False)
    async with Etcd([servers[0].url], lambda: bare, timeout=0.3) as stranger:
        with pytest.raises(StoreUnavailable):
            await stranger.get("/a")


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SURE_SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


async def _put_surely(client: Etcd, key: str) -> None:
    while True:
        try:
            await client.put(key, b"")
        except StoreUnavailable:
            continue  # an election: the key is written again, which the test allows for
        else:
            return


async def _settled(client: Etcd) -> KeyValue | None:
    async with asyncio.timeout(SURE_SECONDS):
        while True:
            try:
                return await client.get("/a")
            except StoreUnavailable:
                continue  # members are starting


async def _promote(client: Etcd, member: int) -> None:
    async with asyncio.timeout(SURE_SECONDS):
        while True:
            try:
                return await client.member_promote(member)
            except LearnerNotReady:
                await asyncio.sleep(0.05)


async def test_a_client_that_asked_much_at_once_keeps_few_connections(
    servers: list[Server], client: Etcd
) -> None:
    """A member has as many idle connections as a client keeps, however many it needed before."""
    first = next(server for server in servers if server.url == client.endpoints[0])
    assert first.process is not None
    before = descriptors(first.process.pid)
    await asyncio.gather(*(client.get(f"/burst/{number}") for number in range(4 * MAX_IDLE)))
    deadline = asyncio.get_running_loop().time() + 30
    # Closing takes a moment; and a member that was just started connects to its peers.
    while descriptors(first.process.pid) > before + 2 * MAX_IDLE:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.1)


def descriptors(pid: int) -> int:
    """Return the number of open descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize(("kind", "confirms"), [("wheel", True), ("system", False)])
async def test_who_may_ask_for_a_list_of_members_with_a_quorum(
    tmp_path: Path, kind: str, confirms: bool
) -> None:
    """From 3.5 on: an older one ignores the option and lists its own state (see Patroni's voters).

    A newer etcd of the system behaves like the first.
    """
    pair = make_servers(kind, tmp_path, 2)
    for server in pair:
        server.start(pair)
    try:
        await asyncio.gather(*(server.ready() for server in pair))
        async with Etcd([pair[0].url], pair[0].tls.source(), timeout=PATIENCE_SECONDS) as etcd:
            version = (await etcd.status(pair[0].url)).version.split(".")
            newer = [int(part) for part in version[:2]] >= [3, 5]
            wish = GatewayRequest("/v3/cluster/member/list", {"linearizable": True}, wire.members)
            both = await etcd._gateway.read(wish)
            assert {one.name for one in both} == {one.name for one in pair}
            pair[1].kill()
            with raises_if(confirms or newer):
                assert await etcd._gateway.request_from(pair[0].url, wish, PATIENCE_SECONDS) == both
    finally:
        for server in pair:
            server.kill()


def raises_if(refused: bool) -> AbstractContextManager[object]:
    """Expect that the store is unavailable, or no error."""
    return pytest.raises(StoreUnavailable) if refused else nullcontext()
