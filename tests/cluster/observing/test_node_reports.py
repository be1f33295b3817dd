"""The nodes' reports: unknown is not a fault, and a delayed report is no wrong clock."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.support.simulated.observations import FACTS, NOW

from openvcha.cluster.observing.node_reports import (
    LISTEN_SECONDS,
    RETRY_SECONDS,
    SAMPLES,
    SILENT_SECONDS,
    NodeReports,
)
from openvcha.node.address.state import HELD, NOBODY
from openvcha.store import address_reports, keys, node_facts
from openvcha.store.interface import Event, Snapshot
from openvcha.store.memory import MemoryStore

pytestmark = pytest.mark.looptime
KEY = keys.node_facts("b-2")


@dataclass
class Ear:
    """A reader of reports on a simulated store; time is the loop's."""

    store: MemoryStore
    node_reports: NodeReports

    async def tell(self, off: float = 0.0, late: float = 0.0) -> None:
        """Report as a node whose clock is ``off``; the report is delayed by ``late``."""
        clock = now() + timedelta(seconds=off - late)
        await self.store.put(KEY, node_facts.encode(msgspec.structs.replace(FACTS, clock=clock)))
        await asyncio.sleep(0.01)


def seconds() -> float:
    return asyncio.get_running_loop().time()


def now() -> datetime:
    return NOW + timedelta(seconds=seconds())


@asynccontextmanager
async def listening() -> AsyncIterator[Ear]:
    """Read reports for as long as the test lasts, by the test's own clock."""
    store = MemoryStore()
    hearing = NodeReports(store, monotonic=seconds, clock=now)
    running = asyncio.create_task(hearing.run())
    await asyncio.sleep(0.01)
    try:
        yield Ear(store, hearing)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_nothing_heard_is_unknown_and_only_later_silence() -> None:
    """A starting node has not reported yet; one that never does causes a warning."""
    async with listening() as ear:
        assert ear.node_reports.report_of("b-2").facts is None
        assert not ear.node_reports.report_of("b-2").silent
        await asyncio.sleep(SILENT_SECONDS + 1)
        assert ear.node_reports.report_of("b-2").silent
        await ear.tell()
        assert not ear.node_reports.report_of("b-2").silent
        assert ear.node_reports.report_of("b-2").facts is not None


async def test_who_has_not_begun_to_listen_does_not_listen() -> None:
    """It does not know the reports, which does not make the nodes silent."""
    hearing = NodeReports(MemoryStore(), monotonic=seconds, clock=now)
    assert not hearing.connected
    async with listening() as ear:
        assert ear.node_reports.connected


async def test_facts_that_are_withdrawn_are_unknown_at_once() -> None:
    """Their lease has expired: they no longer count."""
    async with listening() as ear:
        await ear.tell()
        await ear.store.delete(KEY)
        await asyncio.sleep(0.01)
        assert ear.node_reports.report_of("b-2").facts is None
        assert not ear.node_reports.report_of("b-2").silent


async def test_old_facts_are_not_believed() -> None:
    """Even if the store keeps them."""
    async with listening() as ear:
        await ear.tell()
        await asyncio.sleep(SILENT_SECONDS + 1)
        assert ear.node_reports.report_of("b-2").facts is None
        assert ear.node_reports.report_of("b-2").silent


@pytest.mark.parametrize("off", [-5.0, 0.0, 5.0])
async def test_the_clock_is_known_after_some_reports_and_late_ones_do_not_count(
    off: float,
) -> None:
    """The fastest of some reports counts; a slow one would make the clock seem behind."""
    async with listening() as ear:
        for late in (20.0, 0.0, 3.0)[:SAMPLES]:
            assert ear.node_reports.report_of("b-2").clock_offset is None
            await ear.tell(off, late)
        found = ear.node_reports.report_of("b-2").clock_offset
        assert found is not None
        assert abs(found - off) < 0.1


async def test_what_was_there_before_says_nothing_of_the_clock() -> None:
    """Its age is unknown; its other facts are used."""
    store = MemoryStore()
    await store.put(KEY, node_facts.encode(FACTS))
    hearing = NodeReports(store, monotonic=seconds, clock=now)
    running = asyncio.create_task(hearing.run())
    await asyncio.sleep(0.01)
    assert hearing.report_of("b-2").facts == FACTS
    assert hearing.report_of("b-2").clock_offset is None
    running.cancel()
    await asyncio.wait([running])


async def test_rubbish_and_compaction_do_not_end_it() -> None:
    """A report of another version, and a watch that has to restart."""
    async with listening() as ear:
        await ear.store.put(KEY, b"rubbish")
        await ear.store.compact(ear.store.revision + 2)
        with capture_logs() as told:
            for _ in range(2):
                await ear.store.put("/elsewhere", b"")
            await asyncio.sleep(RETRY_SECONDS * 2)
        assert "cannot watch the nodes' facts" in {one["event"] for one in told}
        await ear.tell()
        assert ear.node_reports.report_of("b-2").facts is not None


@pytest.mark.parametrize("name", ["clock", "certificate_until", "api_certificate_until"])
async def test_a_time_without_a_zone_is_not_heard(name: str) -> None:
    """It could not be compared with one that has a zone; the other reports still count."""
    async with listening() as ear:
        told = json.loads(node_facts.encode(FACTS))
        await ear.store.put(KEY, json.dumps({**told, name: "2026-11-26T20:00:00"}).encode())
        await asyncio.sleep(0.01)
        assert ear.node_reports.report_of("b-2").facts is None
        await ear.tell()
        assert ear.node_reports.report_of("b-2").facts is not None


async def test_facts_beyond_all_bounds_are_not_heard() -> None:
    """The reader goes on reading."""
    async with listening() as ear:
        await ear.store.put(KEY, b'{"x":' + b"[" * 20000 + b"]" * 20000 + b"}")
        await asyncio.sleep(0.01)
        assert ear.node_reports.report_of("b-2").facts is None
        await ear.tell()
        assert ear.node_reports.report_of("b-2").facts is not None


class Deaf(MemoryStore):
    """A store whose watches go silent, and whose reads hang, while it is deaf."""

    deaf = False
    hangs = False
    watches = 0

    async def snapshot(self, prefix: str) -> Snapshot:
        if self.hangs:
            await asyncio.Event().wait()
        return await super().snapshot(prefix)

    async def watch(
        self, target: str, start_revision: int = 0
    ) -> AsyncGenerator[list[Event], None]:
        self.watches += 1
        async for events in super().watch(target, start_revision):
            if self.deaf:
                await asyncio.Event().wait()
            yield events


@asynccontextmanager
async def deafened(*, hangs: bool) -> AsyncIterator[Ear]:
    """Read one report, then go deaf, while the node goes on reporting."""
    store = Deaf()
    hearing = NodeReports(store, monotonic=seconds, clock=now)
    running = asyncio.create_task(hearing.run())
    await asyncio.sleep(0.01)
    ear = Ear(store, hearing)
    await ear.tell()
    store.deaf, store.hangs = True, hangs
    try:
        yield ear
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_while_nodes_report_one_watch_is_enough() -> None:
    """Only silence makes it suspect."""
    async with deafened(hangs=False) as ear:
        assert isinstance(ear.store, Deaf)
        ear.store.deaf = False
        for _ in range(10):
            await asyncio.sleep(LISTEN_SECONDS / 2)
            await ear.tell()
        assert ear.store.watches == 1
        await asyncio.sleep(LISTEN_SECONDS + RETRY_SECONDS)
        assert ear.store.watches == 2


async def test_a_watch_that_is_stuck_makes_nobody_silent() -> None:
    """The nodes report as ever; the reports are also read after some silence."""
    async with deafened(hangs=False) as ear:
        for _ in range(10):
            await asyncio.sleep(SILENT_SECONDS / 4)
            await ear.tell()
            assert not ear.node_reports.report_of("b-2").silent
        await asyncio.sleep(LISTEN_SECONDS + RETRY_SECONDS)
        assert ear.node_reports.report_of("b-2").facts is not None


async def test_who_hears_nothing_at_all_calls_nobody_silent() -> None:
    """The reader itself hangs; when it recovers, all nodes get their full time again."""
    async with deafened(hangs=True) as ear:
        for _ in range(20):
            await asyncio.sleep(SILENT_SECONDS / 4)
            assert not ear.node_reports.report_of("b-2").silent
        assert ear.node_reports.report_of("b-2").facts is None
        assert isinstance(ear.store, Deaf)
        await ear.store.delete(KEY)
        ear.store.deaf = ear.store.hangs = False
        await asyncio.sleep(LISTEN_SECONDS + 2 * RETRY_SECONDS)
        assert not ear.node_reports.report_of("b-2").silent
        await asyncio.sleep(SILENT_SECONDS + 1)
        assert ear.node_reports.report_of("b-2").silent


async def test_what_was_withdrawn_while_the_watch_was_stuck_is_unknown() -> None:
    """The next read does not find it."""
    async with deafened(hangs=False) as ear:
        await ear.store.delete(KEY)
        await asyncio.sleep(LISTEN_SECONDS + RETRY_SECONDS)
        assert ear.node_reports.report_of("b-2").facts is None


async def test_who_holds_the_address_is_known_until_the_report_ends() -> None:
    """It is withdrawn or expires; a report that cannot be read says nothing."""
    key = keys.address_report("b-2")
    async with listening() as ear:
        assert ear.node_reports.report_of("b-2").address is None
        for state in (HELD, NOBODY):
            await ear.store.put(key, address_reports.encode(state))
            await asyncio.sleep(0.01)
            assert ear.node_reports.report_of("b-2").address == state
        await ear.store.put(key, b"?")
        await asyncio.sleep(0.01)
        assert ear.node_reports.report_of("b-2").address is None
        await ear.store.put(key, address_reports.encode(HELD))
        await asyncio.sleep(LISTEN_SECONDS + 1)
        assert ear.node_reports.report_of("b-2").address == HELD
        await ear.store.delete(key)
        await asyncio.sleep(0.01)
        assert ear.node_reports.report_of("b-2").address is None
