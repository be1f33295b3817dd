"""Connections are distributed by their source; none is lost when a worker comes or goes."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from tests.support.waiting import until_async

from openvcha.api_server.server.passed_connections import PassedConnections
from openvcha.daemon.api_processes import distributor
from openvcha.daemon.api_processes.distributor import Distributor, worker_of
from openvcha.daemon.api_processes.worker_socket import register
from openvcha.system.network.private_sockets import connect_socket

SOURCES = [f"127.0.0.{last}" for last in range(1, 33)]
KEY = b"key"
DEADLINE = 60.0
BURST = 400


def test_each_worker_has_its_part_of_the_sources() -> None:
    """And a source always the same worker."""
    count = 8000
    for workers in (2, 3, 4, 16):
        numbers = range(1, workers + 1)
        parts = Counter(worker_of(f"10.0.0.{source}", numbers, KEY) for source in range(count))
        assert sorted(parts) == list(numbers)
        assert all(part == pytest.approx(count / workers, rel=0.2) for part in parts.values())


def test_a_worker_that_goes_moves_only_its_own_sources() -> None:
    """Each limit per source is in the memory of one worker, and should stay there."""
    for source in SOURCES:
        before = worker_of(source, [1, 2, 3], KEY)
        without = [number for number in (1, 2, 3) if number != before]
        assert worker_of(source, without, KEY) != before
        for gone in without:
            left = [number for number in (1, 2, 3) if number != gone]
            assert worker_of(source, left, KEY) == before


def test_nobody_can_choose_whose_worker_he_shares() -> None:
    """Who could would have his flood meet an administrator."""
    shares = {
        worker_of("10.0.0.1", [1, 2], key) == worker_of("10.0.0.2", [1, 2], key)
        for key in (b"%d" % number for number in range(50))
    }
    assert shares == {True, False}


@dataclass
class GreetingWorker:
    """What a worker gets: connections by source, each of which it greets with its number."""

    number: int
    passed: PassedConnections
    sources: list[str] = field(default_factory=list)

    def accept_all(self) -> None:
        while True:
            try:
                accepted, origin = self.passed.accept()
            except BlockingIOError:
                return
            with accepted:
                self.sources.append(origin[0])
                accepted.sendall(bytes([self.number]))


class DistributorHarness:
    """A distributor with workers that greet their clients. No TLS, no HTTP."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "connections.sock"
        self.distributor = Distributor(3)
        self.running = asyncio.create_task(self.distributor.run(self.path))
        self.workers: list[GreetingWorker] = []
        self.port = 0

    async def worker(self, number: int) -> GreetingWorker:
        await until_async(self.path.exists, DEADLINE, pause=0.01)
        passed = PassedConnections(register(self.path, number), ("127.0.0.1", 0))
        made = GreetingWorker(number, passed)
        self.workers.append(made)
        asyncio.get_running_loop().add_reader(passed, made.accept_all)
        await self.until(lambda: number in self.distributor.connected)
        return made

    def end(self, worker: GreetingWorker) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
            asyncio.get_running_loop().remove_reader(worker.passed)
            worker.passed.close()

    async def until(self, condition: object) -> None:
        assert callable(condition)
        await until_async(condition, DEADLINE, pause=0.01)

    async def start(self) -> None:
        _, self.port = await self.distributor.start("127.0.0.1", self.port)

    async def ask(self, source: str) -> int:
        """Connect from a source; return the number of the worker, 0 if refused."""
        return await self.greeting(*await self.connect(source))

    async def connect(self, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(DEADLINE):
            return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))

    async def greeting(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """Return the number of the worker, 0 if refused."""
        async with asyncio.timeout(DEADLINE):
            try:
                said = await reader.read(1)
            except ConnectionResetError:
                said = b""
        writer.close()
        return said[0] if said else 0

    async def ask_each(self) -> dict[str, int]:
        return {source: await self.ask(source) for source in SOURCES}


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[DistributorHarness]:
    made = DistributorHarness(tmp_path)
    yield made
    made.distributor.close()
    for worker in tuple(made.workers):
        made.end(worker)
    made.running.cancel()
    await asyncio.wait([made.running])


async def test_a_source_always_meets_the_same_worker(harness: DistributorHarness) -> None:
    """Whatever ports it connects from; the worker learns who connects."""
    workers = [await harness.worker(number) for number in (1, 2, 3)]
    await harness.start()
    first = await harness.ask_each()
    assert set(first.values()) == {1, 2, 3}
    assert await harness.ask_each() == first
    for worker in workers:
        assert set(worker.sources) == {s for s, number in first.items() if number == worker.number}


async def test_a_lost_worker_costs_its_clients_a_reconnect(harness: DistributorHarness) -> None:
    """The others notice nothing; once it is back, it has its sources again."""
    workers = [await harness.worker(number) for number in (1, 2, 3)]
    await harness.start()
    first = await harness.ask_each()
    harness.end(workers[1])
    during = await harness.ask_each()
    assert set(during.values()) == {1, 3}
    assert all(during[source] == number for source, number in first.items() if number != 2)
    await harness.worker(2)
    assert await harness.ask_each() == first


async def test_a_connection_that_meets_a_lost_worker_goes_to_another(
    harness: DistributorHarness,
) -> None:
    """Before the distributor has heard of the loss."""
    lost, left = await harness.worker(1), await harness.worker(2)
    await harness.start()
    each = await harness.ask_each()
    source = next(source for source, number in each.items() if number == 1)
    harness.end(lost)
    with socket.create_connection(("127.0.0.1", harness.port), source_address=(source, 0)):
        harness.distributor._accept()  # in the same turn of the loop
        left.sources.clear()
        left.accept_all()
    assert left.sources == [source]


async def test_without_workers_clients_wait(harness: DistributorHarness) -> None:
    """It listens from the first one on; if all are gone, it refuses nobody meanwhile."""
    starting = asyncio.create_task(harness.start())
    await asyncio.sleep(0)
    assert not harness.distributor.running
    worker = await harness.worker(1)
    await starting
    harness.end(worker)
    await harness.until(lambda: not harness.distributor.connected)
    waiting = [await harness.connect(source) for source in SOURCES]
    await harness.worker(2)
    assert [await harness.greeting(*client) for client in waiting] == [2] * len(SOURCES)


async def test_a_worker_that_registers_again_replaces_itself(harness: DistributorHarness) -> None:
    """Its killed predecessor may still hold the old channel."""
    await harness.worker(1)
    await harness.start()
    old = harness.workers[0]
    new = PassedConnections(register(harness.path, 1), ("127.0.0.1", 0))
    again = GreetingWorker(1, new)
    harness.workers.append(again)
    asyncio.get_running_loop().add_reader(new, again.accept_all)

    async def reaches_the_new_one() -> bool:
        with_old = len(old.sources)
        return await harness.ask(SOURCES[0]) == 1 and len(old.sources) == with_old

    async with asyncio.timeout(DEADLINE):
        while not await reaches_the_new_one():
            pass
    asyncio.get_running_loop().remove_reader(old.passed)
    harness.workers.remove(old)
    with pytest.raises(EOFError):
        old.passed.accept()
    old.passed.close()


async def test_no_other_process_gets_its_connections(
    harness: DistributorHarness, tmp_path: Path
) -> None:
    """On one machine the next active must fail to listen until the former one has stopped."""
    await harness.worker(1)
    await harness.start()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", harness.port))
    harness.distributor.close()
    assert not harness.distributor.running
    (tmp_path / "next").mkdir()
    following = DistributorHarness(tmp_path / "next")
    following.port = harness.port
    worker = await following.worker(1)
    await following.start()
    assert await following.ask(SOURCES[0]) == 1
    following.end(worker)
    following.distributor.close()
    following.running.cancel()
    await asyncio.wait([following.running])


async def test_it_listens_as_often_as_it_is_ordered_to(harness: DistributorHarness) -> None:
    """Flapping leadership; nobody is left waiting."""
    await harness.worker(1)
    for _ in range(3):
        await harness.start()
        ending = asyncio.create_task(harness.distributor.wait())
        assert await harness.ask(SOURCES[0]) == 1
        harness.distributor.close()
        await ending
        with pytest.raises(ConnectionRefusedError):
            await harness.ask(SOURCES[0])


async def test_a_burst_waits_for_a_worker_that_is_busy(harness: DistributorHarness) -> None:
    """A worker has short pauses; a connection that does not fit its queue is lost."""
    busy = await harness.worker(1)
    await harness.start()
    asyncio.get_running_loop().remove_reader(busy.passed)
    burst = [await harness.connect(SOURCES[0]) for _ in range(BURST)]
    asyncio.get_running_loop().add_reader(busy.passed, busy.accept_all)
    assert [await harness.greeting(*client) for client in burst] == [1] * BURST


async def test_its_end_ends_channels_that_have_no_number_yet(harness: DistributorHarness) -> None:
    """Else they stay open in the next run, and their workers never learn of the end."""
    await harness.until(harness.path.exists)
    with connect_socket(harness.path) as silent:
        await harness.worker(1)  # accepted after it
        harness.running.cancel()
        await asyncio.wait([harness.running])
        assert silent.recv(1) == b""


async def test_a_flood_at_one_worker_holds_up_no_other(
    harness: DistributorHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that does not accept has a bounded queue; the log tells it once."""
    monkeypatch.setattr(distributor, "QUEUE_BYTES", 1)
    stuck, other = await harness.worker(1), await harness.worker(2)
    await harness.start()
    each = await harness.ask_each()
    flooded = next(source for source, number in each.items() if number == 1)
    spared = next(source for source, number in each.items() if number == 2)
    asyncio.get_running_loop().remove_reader(stuck.passed)
    crowd: list[asyncio.StreamWriter] = []
    with structlog.testing.capture_logs() as logged:
        async with asyncio.timeout(DEADLINE):
            while True:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", harness.port, local_addr=(flooded, 0)
                )
                crowd.append(writer)
                if logged and len(crowd) % 50 == 0:
                    break
        assert await harness.ask(flooded) == 0
        assert await harness.ask(spared) == 2
        assert len(logged) == 1
        assert logged[0]["worker"] == 1
    stuck.accept_all()
    assert await asyncio.wait_for(reader.read(1), DEADLINE) in {b"", b"\x01"}
    asyncio.get_running_loop().add_reader(stuck.passed, stuck.accept_all)
    assert await harness.ask(flooded) == 1
    assert spared in other.sources
    for writer in crowd:
        writer.transport.abort()


@pytest.mark.parametrize("number", [0, 4, 255])
async def test_an_unknown_worker_gets_nothing(harness: DistributorHarness, number: int) -> None:
    """Of another number of workers, as after a change of the setting."""
    await harness.worker(1)
    with register(harness.path, number) as channel:
        channel.settimeout(DEADLINE)
        assert await asyncio.to_thread(channel.recv, 1) == b""
    assert harness.distributor.connected == [1]
