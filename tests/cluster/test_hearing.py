"""What nodes tell of themselves: unknown is not a fault, late news are not a wrong clock."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.cluster.conftest import FACTS, NOW

from openvcha.cluster.hearing import RETRY_SECONDS, SAMPLES, SILENT_SECONDS, Hearing
from openvcha.store import facts, keys
from openvcha.store.memory import MemoryStore

pytestmark = pytest.mark.looptime
KEY = keys.node_facts("b-2")


@dataclass
class Ear:
    """A hearing on a simulated store; time is the loop's."""

    store: MemoryStore
    hearing: Hearing

    async def tell(self, off: float = 0.0, late: float = 0.0) -> None:
        """Report as a node does whose clock is ``off``; the report travels for ``late``."""
        clock = now() + timedelta(seconds=off - late)
        await self.store.put(KEY, facts.encode(msgspec.structs.replace(FACTS, clock=clock)))
        await asyncio.sleep(0.01)


def seconds() -> float:
    return asyncio.get_running_loop().time()


def now() -> datetime:
    return NOW + timedelta(seconds=seconds())


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    store = MemoryStore()
    hearing = Hearing(store, monotonic=seconds, clock=now)
    running = asyncio.create_task(hearing.run())
    await asyncio.sleep(0.01)
    yield Ear(store, hearing)
    running.cancel()
    await asyncio.wait([running])


async def test_nothing_heard_is_unknown_and_only_later_silence(ear: Ear) -> None:
    """A node that starts has told nothing yet; one that never tells anything is told of."""
    assert ear.hearing.of("b-2").facts is None
    assert not ear.hearing.of("b-2").silent
    await asyncio.sleep(SILENT_SECONDS + 1)
    assert ear.hearing.of("b-2").silent
    await ear.tell()
    assert not ear.hearing.of("b-2").silent
    assert ear.hearing.of("b-2").facts is not None


async def test_facts_that_are_withdrawn_are_unknown_at_once(ear: Ear) -> None:
    """Their lease has ended: they say nothing any more."""
    await ear.tell()
    await ear.store.delete(KEY)
    await asyncio.sleep(0.01)
    assert ear.hearing.of("b-2").facts is None
    assert not ear.hearing.of("b-2").silent


async def test_old_facts_are_not_believed(ear: Ear) -> None:
    """Even when the store keeps them."""
    await ear.tell()
    await asyncio.sleep(SILENT_SECONDS + 1)
    assert ear.hearing.of("b-2").facts is None
    assert ear.hearing.of("b-2").silent


@pytest.mark.parametrize("off", [-5.0, 0.0, 5.0])
async def test_the_clock_is_known_after_some_reports_and_late_ones_do_not_count(
    ear: Ear, off: float
) -> None:
    """The fastest of some reports tells the clock; a slow one would make it seem behind."""
    for late in (20.0, 0.0, 3.0)[:SAMPLES]:
        assert ear.hearing.of("b-2").clock_off is None
        await ear.tell(off, late)
    found = ear.hearing.of("b-2").clock_off
    assert found is not None
    assert abs(found - off) < 0.1


async def test_what_was_there_before_says_nothing_of_the_clock() -> None:
    """Nobody knows how old it is; its other facts are believed."""
    store = MemoryStore()
    await store.put(KEY, facts.encode(FACTS))
    hearing = Hearing(store, monotonic=seconds, clock=now)
    running = asyncio.create_task(hearing.run())
    await asyncio.sleep(0.01)
    assert hearing.of("b-2").facts == FACTS
    assert hearing.of("b-2").clock_off is None
    running.cancel()
    await asyncio.wait([running])


async def test_rubbish_and_compaction_do_not_end_it(ear: Ear) -> None:
    """A report of another version, and a watch that has to begin anew."""
    await ear.store.put(KEY, b"rubbish")
    await ear.store.compact(ear.store.revision + 2)
    with capture_logs() as told:
        for _ in range(2):
            await ear.store.put("/elsewhere", b"")
        await asyncio.sleep(RETRY_SECONDS * 2)
    assert "the nodes' facts cannot be followed" in {one["event"] for one in told}
    await ear.tell()
    assert ear.hearing.of("b-2").facts is not None


@pytest.mark.parametrize("name", ["clock", "certificate_until", "api_certificate_until"])
async def test_a_time_without_a_zone_is_not_heard(ear: Ear, name: str) -> None:
    """It could not be compared with one that has a zone; the others are heard as ever."""
    told = json.loads(facts.encode(FACTS))
    await ear.store.put(KEY, json.dumps({**told, name: "2026-11-26T20:00:00"}).encode())
    await asyncio.sleep(0.01)
    assert ear.hearing.of("b-2").facts is None
    await ear.tell()
    assert ear.hearing.of("b-2").facts is not None


async def test_facts_beyond_all_bounds_are_not_heard(ear: Ear) -> None:
    """Whoever listens goes on listening."""
    await ear.store.put(KEY, b'{"x":' + b"[" * 20000 + b"]" * 20000 + b"}")
    await asyncio.sleep(0.01)
    assert ear.hearing.of("b-2").facts is None
    await ear.tell()
    assert ear.hearing.of("b-2").facts is not None
