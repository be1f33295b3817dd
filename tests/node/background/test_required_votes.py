"""The job that keeps the required votes: on disk before it confirms them, gone with the task."""

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
import structlog
from structlog.testing import capture_logs

from openvcha.node.background.required_votes import (
    CONFIRM_SECONDS,
    IDLE_SECONDS,
    POLL_SECONDS,
    RequiredVotesFile,
    RequiredVotesKeeper,
)
from openvcha.node.local_records.required_votes import (
    RequiredVotes,
    encode_required_votes,
    kept,
    not_kept_reason,
)
from openvcha.store import keys
from openvcha.store.errors import OutcomeUnknown, RecordForged, StoreUnavailable
from openvcha.store.interface import Event, KeyValue
from openvcha.store.memory import MemoryStore
from openvcha.store.sealing.seal import RESERVED

pytestmark = pytest.mark.looptime

OWN = "w"
REQUIRED_VOTES = RequiredVotes(task="t", active="a", nodes={"a": "vm-a", OWN: "vm-w"})


class Died(BaseException):
    """The node lost its power."""


class Store(MemoryStore):
    """A store that may be away, refuse a record, have stuck watches, or lose its next reply.

    ``reply`` is how: "unknown" raises OutcomeUnknown, "late" never returns.
    """

    away = forged = stuck = False
    reply = ""
    reads = 0

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        revision = await super().put(key, value, lease)
        await self._lose()
        return revision

    async def delete(self, key: str) -> bool:
        found = await super().delete(key)
        await self._lose()
        return found

    async def _lose(self) -> None:
        lost, self.reply = self.reply, ""
        if lost == "unknown":
            raise OutcomeUnknown("the connection was lost")
        if lost == "late":
            await asyncio.Event().wait()

    async def get(self, key: str) -> KeyValue | None:
        self.reads += key == keys.REQUIRED_VOTES
        if self.away:
            raise StoreUnavailable("away")
        if self.forged:
            raise RecordForged(key)
        return await super().get(key)

    async def watch(
        self, target: str, start_revision: int = 0
    ) -> AsyncGenerator[list[Event], None]:
        if self.stuck:
            await asyncio.Event().wait()
        async for events in super().watch(target, start_revision):
            yield events


class Node:
    """A node's disk, which outlives its processes; ``dies_at`` is the write at which it dies."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.kept: RequiredVotes | None = None
        self.seen = [datetime(2026, 1, 1, tzinfo=UTC)]
        self.writes = 0
        self.full = False
        self.begin()

    def save(self, required_votes: RequiredVotes, seen: datetime) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.writes += 1
        self.kept = RequiredVotes(
            task=required_votes.task,
            active=required_votes.active,
            nodes=required_votes.nodes,
            seen=seen.isoformat(),
        )

    def forget(self) -> None:
        self.kept = None

    def begin(self) -> None:
        """Start a new process, which knows only what is on the disk."""
        disk = RequiredVotesFile(lambda: self.kept, self.save, self.forget)
        log = structlog.get_logger()
        self.news = asyncio.Event()
        self.job = RequiredVotesKeeper(
            self.store, disk, OWN, log, now=lambda: self.seen[-1], news=self.news
        )

    async def said(self) -> bytes | None:
        found = await self.store.get(keys.required_votes_confirmed(OWN))
        return found.value if found else None


@pytest.fixture
def node() -> Node:
    return Node(Store())


@pytest.fixture
async def running(node: Node) -> AsyncIterator[Node]:
    task = asyncio.create_task(node.job.run())
    await asyncio.sleep(0.1)
    yield node
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


async def test_it_is_kept_then_said_and_forgotten_with_the_task(running: Node) -> None:
    """The confirmation is the record's revision: an older one does not count."""
    revision = await running.store.put(keys.REQUIRED_VOTES, encode_required_votes(REQUIRED_VOTES))
    await asyncio.sleep(0.1)
    assert running.kept
    assert running.kept.nodes == REQUIRED_VOTES.nodes
    assert await running.said() == b"%d" % revision
    await running.store.delete(keys.REQUIRED_VOTES)
    await asyncio.sleep(0.1)
    assert running.kept is None
    assert await running.said() is None


@pytest.mark.parametrize(("told", "seconds"), [(True, 0.0), (False, IDLE_SECONDS)])
async def test_a_stuck_watch_costs_seconds(node: Node, told: bool, seconds: float) -> None:
    """The node's observation, which reads the record every second, tells of a change too."""
    node.store.stuck = True
    task = asyncio.create_task(node.job.run())
    await asyncio.sleep(0.1)
    await node.store.put(keys.REQUIRED_VOTES, encode_required_votes(REQUIRED_VOTES))
    if told:
        node.news.set()
    await asyncio.sleep(seconds + 0.1)
    assert node.kept
    task.cancel()
    await asyncio.wait([task])


async def test_a_kept_list_is_confirmed_often_and_none_rarely(running: Node) -> None:
    """An idle store is not asked what the node's observation tells anyway."""
    reads = running.store.reads
    await asyncio.sleep(IDLE_SECONDS - 1)
    assert running.store.reads == reads
    await running.store.put(keys.REQUIRED_VOTES, encode_required_votes(REQUIRED_VOTES))
    await asyncio.sleep(0.1)
    reads = running.store.reads
    await asyncio.sleep(3 * POLL_SECONDS)
    assert running.store.reads == reads + 3


@pytest.mark.parametrize("fault", ["away", "forged"])
async def test_a_store_that_does_not_say_it_changes_nothing(node: Node, fault: str) -> None:
    """Then a list is neither forgotten nor stored."""
    await node.store.put(keys.REQUIRED_VOTES, encode_required_votes(REQUIRED_VOTES))
    setattr(node.store, fault, True)
    await node.job.run_once()
    assert node.kept is None
    setattr(node.store, fault, False)
    await node.job.run_once()
    setattr(node.store, fault, True)
    await node.job.run_once()
    assert node.kept


async def test_a_record_that_cannot_be_read_changes_nothing(node: Node) -> None:
    """Another version may have written it."""
    await node.store.put(keys.REQUIRED_VOTES, b"{")
    await node.job.run_once()
    assert (node.kept, await node.said()) == (None, None)


async def test_a_record_that_is_being_written_is_no_news(running: Node) -> None:
    """A sealed record reserves its revision first; a read in between is no reason to warn."""
    await running.store.put(keys.REQUIRED_VOTES, encode_required_votes(REQUIRED_VOTES))
    await asyncio.sleep(0.1)
    with capture_logs() as told:
        await running.store.put(keys.REQUIRED_VOTES, RESERVED)
        await asyncio.sleep(POLL_SECONDS * 2)
    assert told == []
    assert running.kept is not None


async def test_who_is_none_of_the_nodes_forgets_it(node: Node) -> None:
    """A node that was replaced must not act for the others."""
    await node.store.put(keys.REQUIRED_VOTES, encode_required_votes(REQUIRED_VOTES))
    await node.job.run_once()
    other = RequiredVotes(task="u", active="a", nodes={"a": "vm-a"}, gone=OWN)
    await node.store.put(keys.REQUIRED_VOTES, encode_required_votes(other))
    await node.job.run_once()
    assert (node.kept, await node.said()) == (None, None)


async def test_a_full_disk_is_not_said(node: Node) -> None:
    """The node publishes the reason instead, which the task reports."""
    revision = await node.store.put(keys.REQUIRED_VOTES, encode_required_votes(REQUIRED_VOTES))
    node.full = True
    await node.job.run_once()
    said = await node.said()
    assert said is not None
    assert not_kept_reason(said) == os.strerror(errno.ENOSPC)
    assert said != kept(revision)
    node.full = False
    await node.job.run_once()
    assert await node.said() == kept(revision)


async def test_a_list_on_the_disk_is_kept_though_its_age_cannot_be_noted(node: Node) -> None:
    """The disk has filled up since: the confirmation of the same list stays true."""
    revision = await node.store.put(keys.REQUIRED_VOTES, encode_required_votes(REQUIRED_VOTES))
    await node.job.run_once()
    node.full = True
    node.seen.append(node.seen[0] + timedelta(seconds=CONFIRM_SECONDS))
    with capture_logs() as told:
        await node.job.run_once()
    assert [entry["log_level"] for entry in told] == ["warning"]
    assert await node.said() == kept(revision)


@pytest.mark.parametrize("value", [b"", b"17", b"17 x", b"x 28", b"17 28 29", b"17 " + b"9" * 9])
async def test_nothing_else_is_taken_for_a_hindrance(value: bytes) -> None:
    """A node may write anything there."""
    assert not_kept_reason(value) is None


async def test_a_majority_confirms_it_again_and_again_but_the_disk_rests(node: Node) -> None:
    """The file's age says how long the list has been unconfirmed."""
    await node.store.put(keys.REQUIRED_VOTES, encode_required_votes(REQUIRED_VOTES))
    for _ in range(5):
        await node.job.run_once()
    assert node.writes == 1
    node.seen.append(node.seen[0] + timedelta(seconds=CONFIRM_SECONDS))
    await node.job.run_once()
    assert node.writes == 2
    assert node.kept
    assert node.kept.seen == node.seen[-1].isoformat()


@pytest.mark.parametrize("reply", ["unknown", "late"])
async def test_a_lost_reply_leaves_no_confirmation_behind(node: Node, reply: str) -> None:
    """The process lives, the confirmation was written, and the record goes before the next look."""
    await node.job.run_once()
    await node.store.put(keys.REQUIRED_VOTES, encode_required_votes(REQUIRED_VOTES))
    node.store.reply = reply
    await node.job.run_once()
    assert await node.said() is not None
    await node.store.delete(keys.REQUIRED_VOTES)
    await node.job.run_once()
    assert (node.kept, await node.said()) == (None, None)


@pytest.mark.parametrize(
    ("step", "before"), list(product(["save", "put", "forget", "delete"], [True, False]))
)
async def test_whenever_it_dies_what_is_said_is_on_the_disk(
    node: Node, monkeypatch: pytest.MonkeyPatch, step: str, before: bool
) -> None:
    """And after the next start it matches the record, whichever write was the last."""
    record = await node.store.put(keys.REQUIRED_VOTES, encode_required_votes(REQUIRED_VOTES))
    if step in {"forget", "delete"}:
        await node.job.run_once()
        await node.store.delete(keys.REQUIRED_VOTES)
        record = 0
    with monkeypatch.context() as patch:
        _die_at(patch, node, step, before=before)
        node.begin()
        with pytest.raises(Died):
            await node.job.run_once()
    # After the task the order is reversed: first forgotten, then withdrawn.
    assert not record or not await node.said() or node.kept
    assert record or node.kept is None or await node.said()
    node.begin()
    await node.job.run_once()
    assert (node.kept is not None, await node.said()) == (
        bool(record),
        b"%d" % record if record else None,
    )


def _die_at(patch: pytest.MonkeyPatch, node: Node, step: str, *, before: bool) -> None:
    if step in {"save", "forget"}:
        write = getattr(node, step)

        def dying(*arguments: object) -> None:
            if not before:
                write(*arguments)
            raise Died

        patch.setattr(node, step, dying)
        return
    change = getattr(node.store, step)

    async def dying_change(*arguments: object) -> None:
        if not before:
            await change(*arguments)
        raise Died

    patch.setattr(node.store, step, dying_change)
