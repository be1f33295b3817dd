"""Real etcds with authentication: the permissions of each account, and a client's retries."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.support.etcd_servers import Server, make_servers
from tests.support.waiting import until_async

from openvcha.api.secret import Secret
from openvcha.cluster.membership import ensure_leader, promote
from openvcha.store.account import Account
from openvcha.store.errors import AuthenticationFailed, PermissionDenied, StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import Permission, Put, absent

pytestmark = pytest.mark.engines
OWN = Account(name="data-1", password=Secret("all-of-it"))
WITNESS = Account(name="w-1", password=Secret("little"))
READS = Permission("/house/leader")
WRITES = Permission("/house/nodes/w-1/", write=True)
QUORUM = Permission("/")


def cheap(servers: list[Server]) -> list[Server]:
    """Use cheap hashes: the passwords cannot be guessed, as in a node."""
    for server in servers:
        server.flags = ["--bcrypt-cost=4"]
    return servers


@pytest.fixture(params=["system", "wheel"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    """Return one member without authentication."""
    (made,) = cheap(make_servers(request.param, tmp_path, 1))
    made.start([made])
    try:
        await made.ready()
        yield made
    finally:
        made.kill()


def asking(server: Server, account: Account | None = None) -> Etcd:
    return Etcd(
        [server.url], server.tls.source(), timeout=3.0, silence=0.3, account=lambda: account
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    await until_async(condition, 120, pause=0.05)


async def test_each_account_may_do_what_it_is_for(server: Server) -> None:
    """A certificate alone gives access to no key."""
    async with asking(server, OWN) as own, asking(server, WITNESS) as witness:
        await own.put("/house/leader", b"before")
        await own.accounts.enable_auth(OWN)
        await own.accounts.enable_auth(OWN)
        await own.accounts.grant(WITNESS, [QUORUM, READS, WRITES])
        await own.accounts.grant(WITNESS, [QUORUM, READS, WRITES])
        assert await own.accounts.list_names() == {"data-1", "w-1"}
        assert await own.put("/house/leader", b"a") > 0
        assert (await witness.get("/house/leader")) is not None
        lease = await witness.lease_grant(30)
        await witness.put("/house/nodes/w-1/facts", b"well", lease)
        assert await witness.lease_keep_alive(lease) > 0
        assert len(await witness.members()) == 1
        found, members = await witness.get_many_and_members(["/house/leader", "/house/leader"])
        assert (len(found), len(members)) == (2, 1)
        for denied in (
            witness.put("/house/leader", b"w"),
            witness.put("/house/users/thief", b"w"),
            witness.put("/house/nodes/w-10/facts", b"w"),
            witness.get("/house/users/admin"),
            witness.get_many_and_members(["/house/leader", "/house/users/admin"]),
            witness.txn([absent("/house/x")], [Put("/house/x", b"")]),
            witness.delete_prefix("/house/"),
            witness.member_add(["https://127.0.0.9:2380"]),
            witness.accounts.grant(Account(name="me", password=Secret("x")), []),
        ):
            with pytest.raises(PermissionDenied):
                await denied


async def test_a_certificate_alone_opens_nothing(server: Server) -> None:
    """Nor does an account with a wrong password, or a deleted one."""
    wrong = Account(name="data-1", password=Secret("guessed"))
    async with asking(server, OWN) as own:
        await own.accounts.enable_auth(OWN)
        # At once: the client asks until its deadline, as an account may be about to be made.
        await asyncio.gather(*(assert_shut_out(server, one) for one in (None, wrong, WITNESS)))
        await own.accounts.grant(WITNESS, [WRITES])
        async with asking(server, WITNESS) as witness:
            await witness.put("/house/nodes/w-1/facts", b"")
            await own.accounts.delete("w-1")
            await own.accounts.delete("w-1")
            with pytest.raises(AuthenticationFailed):
                await witness.put("/house/nodes/w-1/facts", b"")
        assert await own.accounts.list_names() == {"data-1"}


async def assert_shut_out(server: Server, account: Account | None) -> None:
    """Check that an account, or none, can neither write nor remove a member."""
    async with asking(server, account) as stranger:
        with pytest.raises(AuthenticationFailed):
            await stranger.put("/house/leader", b"s")
        with pytest.raises(StoreError):
            await stranger.member_remove(1)


async def test_a_member_that_was_started_anew_knows_no_token(server: Server) -> None:
    """Reads, writes, leases and watches continue by themselves."""
    async with asking(server, OWN) as own, asking(server, OWN) as other:
        await own.accounts.enable_auth(OWN)
        lease = await own.lease_grant(60)
        written = await own.put("/house/a", b"1", lease)
        async with aclosing(own.watch("/house/", written)) as changes:
            async with asyncio.timeout(120):
                (event,) = await anext(changes)
            assert event.kv.key == "/house/a"
            following = asyncio.ensure_future(anext(changes))
            server.kill()
            server.start([server])
            await until(lambda: _answers(other))
            await other.put("/house/b", b"2")
            async with asyncio.timeout(120):
                (event,) = await following
        assert event.kv.key == "/house/b"
        assert await own.lease_keep_alive(lease) > 0
        assert await own.put("/house/a", b"3") > 0
        assert (await own.get("/house/a")) is not None


async def test_a_watch_begins_with_an_account(server: Server) -> None:
    """It is the client's first request."""
    async with asking(server, OWN) as own, asking(server, OWN) as follower:
        await own.accounts.enable_auth(OWN)
        async with aclosing(follower.watch("/house/a", 1)) as changes:
            await own.put("/house/a", b"1")
            async with asyncio.timeout(120):
                (event,) = await anext(changes)
        assert event.kv.value == b"1"


async def test_another_password_is_taken_from_where_it_is_kept(server: Server) -> None:
    """The token ends with the old one."""
    kept = OWN
    async with Etcd([server.url], server.tls.source(), account=lambda: kept) as own:
        await own.accounts.enable_auth(OWN)
        await own.accounts.grant(WITNESS, [WRITES])
        kept = WITNESS
        async with asking(server, WITNESS) as witness:
            await witness.put("/house/nodes/w-1/x", b"")
        kept = OWN
        await own.put("/house/a", b"")


@pytest.mark.parametrize(
    "done",
    [pytest.param(done, marks=[] if done % 2 else pytest.mark.soak) for done in range(6)],
)
async def test_a_crash_between_any_two_lines_is_gone_on_after(
    server: Server, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next leader starts over, and finds the store open or protected."""
    async with asking(server, OWN) as own:
        ask, left = own.accounts._ask, done

        async def dies(what: str, body: Any) -> None:
            nonlocal left
            if not left:
                raise ConnectionResetError
            left -= 1
            await ask(what, body)

        with monkeypatch.context() as patch:
            patch.setattr(own.accounts, "_ask", dies)
            if done < 5:
                with pytest.raises(ConnectionResetError):
                    await own.accounts.enable_auth(OWN)
            else:
                await own.accounts.enable_auth(OWN)
    async with asking(server, OWN) as successor:
        await successor.accounts.enable_auth(OWN)
        await successor.put("/house/a", b"")
        async with asking(server) as stranger:
            with pytest.raises(AuthenticationFailed):
                await stranger.get("/house/a")


async def test_a_forced_member_goes_on_asking_for_accounts(server: Server) -> None:
    """As on a node that is made stand-alone."""
    async with asking(server, OWN) as own:
        await own.accounts.enable_auth(OWN)
        await own.put("/house/a", b"1")
        server.kill()
        server.flags.append("--force-new-cluster")
        server.start([server])
        await until(lambda: _answers(own))
        async with asking(server) as stranger:
            with pytest.raises(AuthenticationFailed):
                await stranger.get("/house/a")
        await own.put("/house/a", b"2")


async def test_tokens_outlive_an_election_and_a_lost_member(tmp_path: Path) -> None:
    """The survivors know the token; the one that comes back asks for the account once."""
    servers = cheap(make_servers("system", tmp_path, 3))
    try:
        for server in servers:
            server.start(servers)
        await asyncio.gather(*(server.ready() for server in servers))
        urls = [server.url for server in servers]
        async with Etcd(urls, servers[0].tls.source(), timeout=10.0, account=lambda: OWN) as own:
            await own.accounts.enable_auth(OWN)
            await own.put("/house/a", b"1")
            token = own._gateway.token
            members = {member.id: member.name for member in await own.members()}
            leads = members[(await own.status(servers[0].url)).leader]
            leader = next(server for server in servers if server.name == leads)
            leader.kill()
            await until(lambda: _answers(own))
            assert own._gateway.token == token
            leader.start(servers, "existing")
            back = Etcd([leader.url], leader.tls.source(), timeout=10.0, account=lambda: OWN)
            async with back:
                await until(lambda: _answers(back))
            assert await own.put("/house/a", b"2") > 0
    finally:
        for server in servers:
            server.kill()


async def _answers(client: Etcd) -> bool:
    try:
        await client.get("/house/a")
    except StoreError:
        return False
    return True


@pytest.mark.parametrize("kind", ["system", "wheel"])
@pytest.mark.parametrize("leading", [0, 1, 2])
async def test_a_learner_is_promoted_whoever_leads(kind: str, leading: int, tmp_path: Path) -> None:
    """Even by a member that is never shown the account: no member forwards an account.

    With authentication, etcd refuses a promotion that another member forwarded to the leader.
    """
    *three, learner = cheap(make_servers(kind, tmp_path, 4))
    try:
        for server in three:
            server.start(three)
        await asyncio.gather(*(server.ready() for server in three))
        places = [server.url for server in three[:2]]
        async with Etcd(places, three[0].tls.source(), timeout=5.0, account=lambda: OWN) as own:
            await own.accounts.enable_auth(OWN)
            added = await own.member_add([learner.peer_url])
            learner.start([*three, learner], "existing")
            await ensure_leader(own, three[leading].name)
            await until(lambda: promote(own, learner.name, learner.peer_url))
            assert {one.id for one in await own.members() if not one.learner} >= {added.id}
    finally:
        for server in (*three, learner):
            server.kill()
