"""Space in the store: when a member may be defragmented, in which order, and a full store."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import msgspec
import pytest
import structlog
from tests.support.simulated.kept_cluster import IDENTITY
from tests.support.simulated.roomy import simulated
from tests.support.waiting import until_async

from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.sessions import Sessions
from openvcha.api_server.auth.users import User, Users
from openvcha.node.background.space_keeper import keep_space
from openvcha.node.etcd.member import etcd_argv
from openvcha.node.identity import StoreLimits
from openvcha.node.layout import Layout
from openvcha.store import space
from openvcha.store.errors import StoreError, StoreFull
from openvcha.store.etcd.client import Etcd
from openvcha.store.http.client import TlsSource
from openvcha.store.space import WITNESS_QUOTAS, MemberSpace, SpaceReport, is_worthwhile, reclaim

QUOTA = 1000
SMALL_QUOTA = 16 << 20
SURE_SECONDS = 60.0


def a_room(*sizes: tuple[int, int], leader: int = 0, **changes: Any) -> SpaceReport:
    members = tuple(
        MemberSpace(number, f"n{number}", f"https://n{number}", *size, leads=number == leader)
        for number, size in enumerate(sizes)
    )
    return replace(SpaceReport(members), **changes)


@pytest.mark.parametrize(
    ("size", "in_use", "expected"),
    [
        (400, 160, False),
        (400, 150, True),
        (690, 450, False),
        (700, 600, True),
        (700, 601, False),
        (1000, 1000, False),
        (100, 200, False),
    ],
)
def test_it_pays_when_enough_comes_free(size: int, in_use: int, expected: bool) -> None:
    """A quarter of the quota; a tenth once there is a warning."""
    assert is_worthwhile(MemberSpace(1, "n", "u", size, in_use), QUOTA) is expected


def test_the_leader_is_the_last() -> None:
    """The others are ordered by name."""
    assert [one.name for one in a_room((1, 1), (1, 1), (1, 1)).in_order] == ["n1", "n2", "n0"]


def test_nobody_is_away_while_the_cluster_is_degraded() -> None:
    """But with a full store no write is possible anyway."""
    fine = a_room((1, 1), (1, 1), (1, 1))
    assert fine.why_not() is None
    for worse in (
        replace(fine, silent=("n3",)),
        replace(fine, learners=("n3",)),
        a_room((1, 1), leader=7),
    ):
        assert worse.why_not() is not None
        assert replace(worse, full=True).why_not() is None


@pytest.mark.looptime
async def test_a_full_store_is_given_room_one_member_after_the_other() -> None:
    """Its history is compacted first, and the leader hands over before it is away."""
    store = simulated(100, a=1000, b=1000, c=1000)
    after = await reclaim(store, QUOTA, lambda _: None)
    assert store.calls == [
        "compact 42",
        "defragment b",
        "defragment c",
        "leader 2",
        "defragment a",
        "disarm",
    ]
    assert not after.full


@pytest.mark.looptime
async def test_a_member_that_compacts_late_is_waited_for() -> None:
    """Defragmented before its compaction it would free nothing, and be full again."""
    store = simulated(100, a=1000, b=1000, c=1000)
    store.late = {"b": 7, "c": 20}
    after = await reclaim(store, QUOTA, lambda _: None)
    assert {one.size for one in after.members} == {100}
    assert not after.full


@pytest.mark.looptime
async def test_a_member_that_never_compacts_holds_nothing_up() -> None:
    """The wait for it ends; the store is as full as that member, which keeps the alarm."""
    store = simulated(100, a=1000, b=1000)
    store.late = {"b": 10_000}
    after = await reclaim(store, QUOTA, lambda _: None)
    assert {one.name: one.size for one in after.members} == {"a": 100, "b": 1000}
    assert after.full


@pytest.mark.looptime
async def test_what_stays_full_keeps_its_alarm() -> None:
    """Otherwise etcd would raise it at the next write, without an explanation."""
    store = simulated(980, a=1000, b=1000, c=1000)
    after = await reclaim(store, QUOTA, lambda _: None, every=True)
    assert "disarm" not in store.calls
    assert after.full


@pytest.mark.looptime
async def test_who_does_not_answer_is_told_and_passed_over() -> None:
    """The others are defragmented."""
    store = simulated(100, a=1000, b=1000, dead=1000)
    after = await reclaim(store, QUOTA, lambda _: None)
    assert after.silent == ("dead",)
    assert store.calls[-1] == "disarm"


class Server(Protocol):
    """A member, as the fixture provides it."""

    name: str
    directory: Path
    tls: Any
    url: str
    flags: list[str]

    def start(self, initial: Sequence["Server"], state: str = "new") -> None:
        """Start it."""

    def kill(self) -> None:
        """End it."""

    async def ready(self) -> None:
        """Wait until it answers."""


@pytest.fixture(params=["system", "wheel"])
async def small(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Etcd]:
    """Return a client of three real members with a small quota."""
    servers: list[Server] = request.getfixturevalue("make_members")(request.param, tmp_path, 3)
    source: TlsSource = servers[0].tls.source()
    try:
        for server in servers:
            server.flags += [f"--quota-backend-bytes={SMALL_QUOTA}"]
            server.start(servers)
        await asyncio.gather(*(server.ready() for server in servers))
        async with Etcd([server.url for server in servers], source, timeout=30) as etcd:
            yield etcd
    finally:
        for server in servers:
            server.kill()


async def fill(etcd: Etcd) -> None:
    """Write the same key repeatedly, as mere history, until the store is full."""
    async with asyncio.timeout(SURE_SECONDS):
        while await written(etcd):
            pass


async def is_full(etcd: Etcd, members: int) -> bool:
    """Return whether this many members answer, and the alarm is known."""
    found = await space.measure(etcd)
    return found.full and len(found.members) == members


async def one_leads(etcd: Etcd) -> bool:
    found = await space.measure(etcd)
    return sum(one.leads for one in found.members) == 1


async def written(etcd: Etcd) -> bool:
    try:
        await etcd.put("/junk", secrets.token_bytes(1 << 20))
    except StoreFull:
        return False
    return True


@pytest.mark.engines
async def test_a_real_store_that_is_full_is_mended(small: Etcd) -> None:
    """Nothing is lost; a login gets a precise error, deletes work; and then everything does."""
    users = Users(small)
    await small.put("/precious", b"row")
    sessions = Sessions(small, users, per_user=2)
    user = User(name="u", role=UserRole.NO_ACCESS, password_hash="", generation="g")
    await sessions.create(user)
    await fill(small)
    await until_async(lambda: is_full(small, 3), SURE_SECONDS)
    with pytest.raises(StoreFull):
        await sessions.create(user)
    assert await small.delete("/junk")
    assert [kv.value for kv in await small.prefix("/precious")] == [b"row"]
    said: list[str] = []
    after = await reclaim(small, SMALL_QUOTA, said.append)
    assert not after.full
    assert len(said) == 3
    assert all(one.size < SMALL_QUOTA // 4 for one in after.members)
    await until_async(lambda: one_leads(small), SURE_SECONDS)  # there may be an election
    await small.put("/precious", b"another")
    await sessions.create(user)
    with pytest.raises(StoreError):
        await small.compact(1)


@pytest.mark.engines
@pytest.mark.parametrize("small", ["system"], indirect=True)
async def test_a_real_full_store_is_mended_by_a_data_node(small: Etcd, tmp_path: Path) -> None:
    """Without a leader, as the leader key is a write, the first node by name does it."""
    notes: dict[str, str | None] = {}
    view: Any = SimpleNamespace(
        layout=SimpleNamespace(space_lock=tmp_path / "lock"),
        identity=SimpleNamespace(
            member="n1", holds_data=True, store=StoreLimits(quota_bytes=SMALL_QUOTA)
        ),
        store=small,
        events=structlog.get_logger("test"),
        control=SimpleNamespace(tell=notes.__setitem__),
    )
    await fill(small)
    keeping = asyncio.create_task(keep_space(view))
    async with asyncio.timeout(SURE_SECONDS):
        while (await space.measure(small)).full:  # noqa: ASYNC110 - it is other programs' state
            await asyncio.sleep(0.2)
    keeping.cancel()
    await asyncio.wait([keeping])
    assert "the store uses" in str(notes["room"])
    await small.put("/leader", b"n1")


@pytest.mark.looptime
async def test_a_witness_is_shown_no_account_to_be_given_room() -> None:
    """It is reported, and nothing else: a thief may answer there."""
    store = simulated(100, a=900, w=900)
    store.strangers = ("w",)
    found = await space.measure(store)
    assert [is_worthwhile(one, QUOTA) for one in found.in_order] == [False, False]
    after = await reclaim(store, QUOTA, lambda _: None, every=True)
    assert [call for call in store.calls if "defragment" in call] == ["defragment a"]
    assert {one.name: one.size for one in after.members} == {"a": 100, "w": 900}


@pytest.mark.looptime
async def test_the_file_of_a_witness_keeps_no_store_full() -> None:
    """It was as large as those of the data nodes, and no data node defragments it."""
    store = simulated(100, a=1000, b=1000, w=1100)
    store.strangers = ("w",)
    after = await reclaim(store, QUOTA, lambda _: None)
    assert not after.full
    assert store.calls[-1] == "disarm"


@pytest.mark.parametrize(("kind", "quotas"), [("data", 1), ("witness", WITNESS_QUOTAS)])
def test_a_witness_has_a_larger_quota(kind: str, quotas: int, tmp_path: Path) -> None:
    """So that it is never the one that is full."""
    identity = msgspec.structs.replace(IDENTITY, kind=kind, store=StoreLimits(quota_bytes=QUOTA))
    line = etcd_argv(Path("etcd"), identity, Layout(tmp_path))
    assert f"--quota-backend-bytes={quotas * QUOTA}" in line


@pytest.mark.looptime
async def test_what_a_witness_says_of_alarm_and_revision_is_not_believed() -> None:
    """A thief's would keep the members busy, or make them compact unwritten revisions."""
    store = simulated(100, a=500, w=500)
    store.strangers = ("w",)
    store.statuses["a"] = replace(store.statuses["a"], full=False)
    store.statuses["w"] = replace(store.statuses["w"], revision=1 << 60)
    found = await space.measure(store)
    assert (found.full, found.revision) == (False, 42)


@pytest.mark.looptime
async def test_each_member_hears_of_the_end_of_the_alarm_in_its_own_time() -> None:
    """A member that is behind would still report the store as full."""
    store = simulated(100, a=1000, b=1000)
    told = store.disarm_alarm
    later = asyncio.get_running_loop().call_later

    async def disarm(members: frozenset[int]) -> None:
        later(1.0, lambda: asyncio.ensure_future(told(members)))

    store.disarm_alarm = disarm  # type: ignore[method-assign]
    assert not (await reclaim(store, QUOTA, lambda _: None)).full
