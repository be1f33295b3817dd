"""What a node stores of its cluster: on disk as soon as it changes, used where peers are needed."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import msgspec
import pytest
from tests.support.engine_config import TLS
from tests.support.nodes import SECRETS
from tests.support.simulated.kept_cluster import (
    CONFIGURATION,
    IDENTITY,
    KNOWN,
    REDEPLOYED,
    kept,
    member,
)

from openvcha.node.background.membership_cache import KEEP_SECONDS, MembershipCache
from openvcha.node.etcd import member as etcd
from openvcha.node.etcd.endpoints import ProvenNames, register
from openvcha.node.etcd.member import known_endpoints, wait_until_admitted
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import (
    KeptCluster,
    MajorityView,
    forget_others,
    load_kept,
    save_kept,
)
from openvcha.node.patroni.config import patroni_config
from openvcha.node.process.status import LocalRole
from openvcha.store.errors import StoreUnavailable
from openvcha.store.interface import EndpointStatus, KeyValue


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_members_are_kept_with_what_is_needed_to_ask_them(layout: Layout) -> None:
    """Names, roles, addresses, the URLs of etcd and Patroni, and the node's own role."""
    save_kept(layout, kept(primary=False))
    found = load_kept(layout, IDENTITY)
    assert found is not None
    assert found.primary is False
    assert [(one.name, one.role, one.ha_address, one.vm) for one in found.members] == [
        ("a", LocalRole.PASSIVE, "127.1.1.1", "vm-1"),
        ("b", LocalRole.ACTIVE, "127.1.1.4", "vm-4"),
        ("w", LocalRole.WITNESS, "127.1.1.5", "vm-5"),
    ]
    assert [one.patroni_url for one in found.others] == ["https://127.1.1.4:8008", ""]
    assert (found.role, found.in_sync, found.listed) == (LocalRole.PASSIVE, True, True)
    assert (found.timeline, found.lsn) == (3, 80)


def test_what_is_unreadable_or_of_another_incarnation_is_nothing(layout: Layout) -> None:
    """The node that takes another's place may reuse its directory."""
    save_kept(layout, kept())
    assert load_kept(layout, msgspec.structs.replace(IDENTITY, member="a-2")) is None
    layout.kept.write_text("{")
    assert load_kept(layout, IDENTITY) is None
    assert known_endpoints(IDENTITY, layout)[1:] == ["https://127.1.1.2:2379"]


def test_kept_members_count_and_not_the_peers_of_the_birth(layout: Layout) -> None:
    """Others were removed; a learner cannot answer. Patroni uses the same members."""
    more = (*REDEPLOYED, member("new", 6, learner=True), member("", 7))
    save_kept(layout, kept(MajorityView(more, None, frozenset())))
    assert known_endpoints(IDENTITY, layout) == ["https://127.1.1.1:2379"]
    register(layout, {"b-2": "127.1.1.4", "new": "127.1.1.6"})
    endpoints = known_endpoints(IDENTITY, layout)
    assert endpoints == [f"https://127.1.1.{at}:2379" for at in (1, 4)]
    config = patroni_config(IDENTITY, SECRETS, layout, TLS, endpoints)
    assert msgspec.json.decode(config)["etcd3"]["hosts"] == [f"127.1.1.{at}:2379" for at in (1, 4)]


def test_who_stands_alone_asks_no_other(layout: Layout) -> None:
    """Otherwise the node would go on asking members that it has left."""
    forget_others(layout, IDENTITY)
    assert not layout.kept.exists()
    save_kept(layout, kept())
    forget_others(layout, IDENTITY)
    assert known_endpoints(IDENTITY, layout) == ["https://127.1.1.1:2379"]


class Cluster:
    """The store as the job sees it."""

    endpoints = ("https://127.1.1.1:2379",)

    def __init__(self) -> None:
        self.silent = False
        self.value = CONFIGURATION
        self.full: frozenset[int] = frozenset()

    async def get(self, key: str) -> KeyValue:
        if self.silent:
            raise StoreUnavailable("no quorum")
        return KeyValue(key, self.value, 1, 1)

    async def members_without_space(self) -> frozenset[int]:
        return self.full

    async def status(self, _: str) -> EndpointStatus:
        full = bool(self.full)
        return EndpointStatus(1, 1, "3.4", 0, 1, 1, cluster_id=0xC1, revision=7, full=full)


class WriterHarness:
    """The job's writer; what it would write is in ``saved``."""

    def __init__(self, layout: Layout) -> None:
        self.cluster = Cluster()
        self.saved: list[KeptCluster] = []
        self.warnings: list[str] = []
        self.broken = False
        self.told: list[str | None] = []
        view: Any = SimpleNamespace(
            identity=IDENTITY,
            layout=layout,
            store=self.cluster,
            events=SimpleNamespace(warning=self.warnings.append),
            control=SimpleNamespace(
                tell=lambda _, text: self.told.append(text), proven=ProvenNames()
            ),
        )
        self.keeping = MembershipCache(view, save=self.save)

    async def save(self, _: Layout, found: KeptCluster) -> None:
        if self.broken:
            raise OSError("no room")
        self.saved.append(found)

    async def sees(self, known: MajorityView, seconds: int = 1) -> None:
        """Observe the same for this long, once a second."""
        for _ in range(seconds):
            self.keeping.note(known)
            await asyncio.sleep(1)


@pytest.mark.looptime
async def test_a_change_is_written_at_once_and_the_time_now_and_then(layout: Layout) -> None:
    """A new position alone is no change: that would keep the disk of a busy node busy."""
    harness = WriterHarness(layout)
    running = asyncio.create_task(harness.keeping.run())
    await harness.sees(KNOWN)
    assert [one.store_id for one in harness.saved] == ["c1"]
    for lsn in range(81, 90):
        await harness.sees(_at(lsn))
    assert len(harness.saved) == 1
    await harness.sees(_at(90), int(KEEP_SECONDS))
    assert [one.lsn for one in harness.saved] == [80, 90]
    await harness.sees(MajorityView(REDEPLOYED, "b-2", frozenset()))
    assert [one.in_sync for one in harness.saved] == [True, True, False]
    running.cancel()


@pytest.mark.looptime
async def test_a_removed_node_is_not_listed_by_who_takes_its_name(layout: Layout) -> None:
    """Else a recovery would say that no row is lost, though the others went on without it."""
    harness = WriterHarness(layout)
    running = asyncio.create_task(harness.keeping.run())
    await harness.sees(KNOWN)
    thief = replace(member("w-2", 5), name=IDENTITY.member)
    await harness.sees(MajorityView((member("b-2", 4), thief), "b-2", frozenset()))
    assert [one.listed for one in harness.saved] == [True, False]
    running.cancel()


@pytest.mark.looptime
async def test_until_when_another_led_is_kept_after_it_is_lost(layout: Layout) -> None:
    """So that a person knows how old the reported position is."""
    harness = WriterHarness(layout)
    running = asyncio.create_task(harness.keeping.run())
    await harness.sees(KNOWN)
    await harness.sees(MajorityView(REDEPLOYED, None, frozenset({"a-1"})))
    last = harness.saved[-1]
    assert (last.leader, last.last_leader, last.last_led) == (None, "b-2", harness.saved[0].seen)
    await harness.sees(MajorityView(REDEPLOYED, "a-1", frozenset()))
    assert harness.saved[-1].last_leader == "b-2"
    running.cancel()


@pytest.mark.looptime
async def test_a_store_that_is_full_is_told_by_whom(layout: Layout) -> None:
    """No user can log in to ask the API."""
    harness = WriterHarness(layout)
    running = asyncio.create_task(harness.keeping.run())
    harness.cluster.full = frozenset({4})
    await harness.sees(KNOWN)
    assert "NOSPACE on b-2" in str(harness.told[-1])
    harness.cluster.full = frozenset()
    await harness.sees(KNOWN, int(KEEP_SECONDS) + 1)
    assert harness.told[-1] is None
    running.cancel()


def _at(lsn: int) -> MajorityView:
    return MajorityView(REDEPLOYED, "b-2", frozenset({"a-1"}), paused=False, timeline=3, lsn=lsn)


@pytest.mark.looptime
async def test_what_cannot_be_asked_any_more_stays_as_it_was_kept(layout: Layout) -> None:
    """That a node is out of sync must be recorded even if the store goes silent just then."""
    harness = WriterHarness(layout)
    running = asyncio.create_task(harness.keeping.run())
    await harness.sees(KNOWN)
    harness.cluster.silent = True
    await harness.sees(MajorityView(REDEPLOYED, "b-2", frozenset()))
    assert (harness.saved[-1].in_sync, harness.saved[-1].store_id) == (False, "c1")
    assert [one.name for one in harness.saved[-1].members] == ["a", "b", "w"]
    harness.cluster.silent, harness.cluster.value = False, b"not a record"
    await harness.sees(KNOWN)
    assert [one.vm for one in harness.saved[-1].members] == ["vm-1", "vm-4", "vm-5"]
    running.cancel()


@pytest.mark.looptime
async def test_a_disk_that_takes_nothing_is_told_once_and_tried_again(layout: Layout) -> None:
    """The data on disk are outdated then; it matters more that the node goes on."""
    harness = WriterHarness(layout)
    running = asyncio.create_task(harness.keeping.run())
    harness.broken = True
    await harness.sees(KNOWN, 3)
    assert len(harness.warnings) == 1
    harness.broken = False
    await harness.sees(KNOWN)
    assert harness.saved
    running.cancel()


@pytest.mark.looptime
async def test_a_node_whose_own_store_is_broken_gets_in_by_members_that_came_later(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All peers it was created with were replaced; otherwise it would wait for ever."""
    asked: list[str] = []

    class Others:
        def __init__(self, endpoints: Any, *_: Any, **__: Any) -> None:
            asked.extend(endpoints)
            self.alive = "https://127.1.1.4:2379" in endpoints

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            """Do nothing."""

        async def members(self) -> Any:
            if not self.alive:
                raise StoreUnavailable("nobody there")
            return REDEPLOYED

    async def silent(*_: Any) -> bool:
        return False

    monkeypatch.setattr(etcd, "Etcd", Others)
    monkeypatch.setattr(etcd, "is_healthy", silent)
    tls: Any = lambda: None  # noqa: E731 - nothing is connected
    save_kept(layout, kept())
    register(layout, {"b-2": "127.1.1.4"})
    async with asyncio.timeout(30):
        await wait_until_admitted(IDENTITY, layout, tls)
    assert asked
