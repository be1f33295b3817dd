"""A removed node stops its database: at once after a freeze, otherwise after a grace period."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from openvcha.node.background.cluster_records import ObservedMembers
from openvcha.node.background.expulsion import GRACE_SECONDS, POLL_SECONDS, watch_expulsion
from openvcha.node.etcd.endpoints import ProvenNames
from openvcha.store.errors import StoreUnavailable
from openvcha.store.interface import Member

pytestmark = pytest.mark.looptime


def member(number: int, name: str, address: str) -> Member:
    return Member(number, name, (f"https://{address}:2380",), ())


OTHER, OWN = member(1, "a-1", "127.83.2.11"), member(2, "b-2", "127.83.2.12")
THIEF = member(3, "b-2", "127.83.2.13")
"""A witness whose vote is stolen announces another member's name."""
THIEF_AT_OWN_ADDRESS = member(3, "b-2", "127.83.2.12")
"""It announces that member's address as well."""


class Node:
    """A data node's view; ``ended`` is what was stopped, with the time."""

    def __init__(self) -> None:
        self.listed: bool | None = True
        self.ended: list[tuple[str, float]] = []
        self.asked = 0
        self.others: list[Member] = []
        self.notes: dict[str, str | None] = {}
        ready = asyncio.Event()
        ready.set()
        self.view: Any = SimpleNamespace(
            identity=SimpleNamespace(member="b-2", holds_data=True, ha_address="127.83.2.12"),
            layout=SimpleNamespace(root="/node"),
            store=self,
            control=SimpleNamespace(
                ready=ready,
                halt=self._halt,
                tell=self.notes.__setitem__,
                begin=self._halt,
                members=None,
                proven=ProvenNames(),
            ),
        )

    async def live(self) -> None:
        """Be a member for a while."""
        self.job = asyncio.create_task(watch_expulsion(self.view))
        await asyncio.sleep(2 * POLL_SECONDS)

    async def members(self) -> list[Any]:
        self.asked += 1
        if self.listed is None:
            raise StoreUnavailable("away")
        return [OTHER, *([OWN] if self.listed else []), *self.others]

    async def _halt(self, part: str) -> None:
        self.note(part)

    def note(self, what: str) -> None:
        self.ended.append((what, asyncio.get_running_loop().time()))

    @property
    def what(self) -> list[str]:
        return [what for what, _ in self.ended]


@pytest.fixture
async def node(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    node = Node()

    def kill(_: Any, *, which: Callable[[Any], bool]) -> None:
        assert which(SimpleNamespace(argv=("/usr/bin/postgres", "-D", "x")))
        node.note("postgres")

    async def at_once(work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return work(*arguments, **options)

    monkeypatch.setattr("openvcha.node.background.expulsion.kill_tree", kill)
    monkeypatch.setattr("openvcha.node.background.expulsion.asyncio.to_thread", at_once)
    yield node
    node.job.cancel()
    await asyncio.wait([node.job])


async def test_a_member_is_left_alone(node: Node) -> None:
    """Even while the store is away."""
    await node.live()
    node.listed = None
    await asyncio.sleep(60)
    node.listed = True
    await asyncio.sleep(60)
    assert not node.ended


async def test_replaced_while_it_was_frozen_it_ends_with_its_first_look(node: Node) -> None:
    """PostgreSQL first, then what would restart it, then what that has started."""
    await node.live()
    node.listed = None  # a frozen process reads nothing
    await asyncio.sleep(60)
    node.listed = False
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(2 * POLL_SECONDS)
    each = ["postgres", "service", "api", "patroni", "postgres"]
    assert node.what[: 2 * len(each)] == [*each, *each]
    assert node.ended[0][1] - began <= POLL_SECONDS
    assert "removed" in str(node.notes)


async def test_removed_while_it_lives_it_is_let_go_first(node: Node) -> None:
    """Commits may still wait for it: an undeploy releases it, then powers it off."""
    await node.live()
    node.listed = False
    await asyncio.sleep(GRACE_SECONDS - 2 * POLL_SECONDS)
    assert not node.ended
    await asyncio.sleep(4 * POLL_SECONDS)
    assert "patroni" in node.what


async def test_what_another_duty_has_just_read_is_not_asked_again(node: Node) -> None:
    """It counts like its own read, and no longer: a frozen node has read nothing."""
    clock = asyncio.get_running_loop().time
    node.view.control.members = ObservedMembers(clock(), (OTHER, OWN))
    await node.live()
    for _ in range(30):
        node.view.control.members = ObservedMembers(clock(), (OTHER, OWN))
        await asyncio.sleep(POLL_SECONDS)
    assert node.asked <= 1
    node.listed = None
    await asyncio.sleep(60)
    node.listed = False
    await asyncio.sleep(2 * POLL_SECONDS)
    assert "patroni" in node.what


async def test_a_list_without_the_node_expels_it(node: Node) -> None:
    """After the grace period."""
    await node.live()
    clock = asyncio.get_running_loop().time
    for _ in range(2 * int(GRACE_SECONDS)):
        node.view.control.members = ObservedMembers(clock(), (OTHER,))
        await asyncio.sleep(POLL_SECONDS)
    assert node.ended[0][1] >= GRACE_SECONDS


@pytest.mark.parametrize("thief", [THIEF, THIEF_AT_OWN_ADDRESS])
@pytest.mark.parametrize("observed", [True, False])
async def test_who_takes_its_name_keeps_no_removed_node_running(
    node: Node, observed: bool, thief: Member
) -> None:
    """It would stream and serve reads for ever, once it is thawed."""
    await node.live()
    node.listed, node.others = False, [thief]
    clock = asyncio.get_running_loop().time
    for _ in range(2 * int(GRACE_SECONDS)):
        if observed:
            node.view.control.members = ObservedMembers(clock(), (OTHER, thief))
        await asyncio.sleep(POLL_SECONDS)
    assert "patroni" in node.what


async def test_who_renames_it_does_not_end_it(node: Node) -> None:
    """Its id cannot be changed: any voter could stop the active otherwise."""
    await node.live()
    node.listed, node.others = False, [replace(OWN, name="x", peer_urls=THIEF.peer_urls), THIEF]
    await asyncio.sleep(GRACE_SECONDS + 20)
    assert not node.ended


async def test_a_witness_ends_nothing_here(node: Node) -> None:
    """It has no database, and no client uses its service: its member exits by itself."""
    node.view.identity.holds_data = False
    await node.live()
    node.listed = False
    await asyncio.sleep(GRACE_SECONDS + 20)
    assert not node.ended


async def test_it_stays_ended(node: Node) -> None:
    """Whatever restarts it: checked every second."""
    await node.live()
    node.listed = False
    await asyncio.sleep(GRACE_SECONDS + 20)
    assert node.what.count("patroni") > 10
