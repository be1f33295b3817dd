"""The service's orders to the API's process, over a real socket: at once, always, bounded."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec
import pytest
from tests.support.waiting import until_async

from openvcha.daemon.api_processes import orders
from openvcha.daemon.api_processes.local_socket import MAX_LINE_BYTES, connect
from openvcha.daemon.api_processes.orders import (
    NOT_SERVING,
    ApiLink,
    Orders,
    Report,
    receive_orders,
)
from openvcha.node.process.process_tree import Process
from openvcha.node.process.supervised_loop import BackgroundFailures
from openvcha.system.network.private_sockets import listen, short_path
from openvcha.system.proc import read_stat

LATEST = 60.0
"""Bound of what has to come, not a measure."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a path that is far too long for a socket address."""
    folder = tmp_path / ("a" * 100)
    folder.mkdir()
    return folder / "api.sock"


class Service:
    """The service's end, with what it knows."""

    def __init__(self, place: Path) -> None:
        self.failing = BackgroundFailures()
        self.unreadable: tuple[str, ...] = ()
        self.killed: list[int] = []
        self.link = ApiLink(place, self.orders, self.told, kill=self.kill)
        self.reports: list[Mapping[str, str]] = []
        self.running = asyncio.create_task(self.link.run())

    def orders(self, serve: bool) -> Orders:
        return Orders(serve=serve, failing=self.failing.own, unreadable=self.unreadable)

    def told(self, reasons: Mapping[str, str]) -> None:
        self.reports.append(reasons)
        self.failing.note_others(reasons)

    def kill(self, process: Process) -> bool:
        self.killed.append(process.pid)
        return True

    @property
    def waits(self) -> bool:
        """Return whether it does not yet know that no API serves."""
        return self.link._may_serve is not None

    async def end(self) -> None:
        assert not self.running.done(), self.running
        self.running.cancel()
        await asyncio.wait([self.running])


class Heard:
    """The API's end: the orders received, in sequence, without repetitions.

    It obeys at once, or goes on as before: ``stuck`` serving, ``deaf`` not serving. It serves, or
    only ``waits`` for its port.
    """

    def __init__(self, place: Path) -> None:
        self.failing = BackgroundFailures()
        self.stuck = self.deaf = self.waits = False
        self.orders: list[Orders] = []
        self.running = asyncio.create_task(self._follow(place))

    async def _follow(self, place: Path) -> None:
        async with contextlib.aclosing(receive_orders(place, self.report)) as found:
            async for each in found:
                if not self.orders or self.orders[-1] != each:
                    self.orders.append(each)

    def report(self, number: int) -> Report:
        serving = self.stuck or (self.serves and not self.deaf)
        listens = serving and not self.waits
        failing = self.failing.own
        return Report(serving=serving, listens=listens, number=number, failing=failing)

    @property
    def serves(self) -> bool:
        return bool(self.orders) and self.orders[-1].serve

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])


async def until(condition: object) -> None:
    assert callable(condition)
    await until_async(condition, LATEST, pause=0.01)


@pytest.fixture
async def service(place: Path) -> AsyncIterator[Service]:
    made = Service(place)
    yield made
    await made.end()


@pytest.fixture
async def heard(place: Path) -> AsyncIterator[Heard]:
    made = Heard(place)
    yield made
    await made.end()


async def test_the_api_hears_when_to_serve(service: Service, heard: Heard) -> None:
    """On and off, whichever end was there first."""
    service.link.serve()
    await until(lambda: heard.serves)
    service.link.end()
    await until(lambda: not heard.serves)


async def test_an_api_that_comes_later_hears_it_too(service: Service, place: Path) -> None:
    """As after its crash."""
    service.link.serve()
    for _ in range(2):
        api = Heard(place)
        await until(lambda api=api: api.serves)
        await api.end()


async def test_nobody_serves_when_the_service_has_ended(place: Path, heard: Heard) -> None:
    """And again when there is a new one, at the path that the old one left behind."""
    for _ in range(2):
        service = Service(place)
        service.link.serve()
        await until(lambda: heard.serves)
        await service.end()
        await until(lambda: not heard.serves)
    assert heard.orders[-1] == NOT_SERVING


async def test_nobody_serves_when_the_service_is_silent(
    place: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen process keeps its connections, and another node may lead meanwhile."""
    monkeypatch.setattr(orders, "SILENCE_TIMEOUT_SECONDS", 0.2)
    line = msgspec.json.encode(Orders(serve=True)) + b"\n"

    async def freeze(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line)
        await reader.read()
        writer.transport.abort()

    with listen(place) as listener:
        server = await asyncio.start_unix_server(freeze, sock=listener)
        await until(lambda: heard.serves)
        before = len(heard.orders)
        await until(lambda: NOT_SERVING in heard.orders[before:])  # it serves again soon
        await heard.end()
        server.close()
        await asyncio.sleep(0.05)


async def test_each_knows_what_fails_in_the_other(service: Service, heard: Heard) -> None:
    """The API reports both, and so do the events, which the service records."""
    service.unreadable = ("/openvcha/x",)
    service.failing("tasks", "no store")
    heard.failing("API: serving", "port taken")
    service.link.serve()
    await until(lambda: heard.serves)
    assert heard.orders[-1].failing == {"tasks": "no store"}
    assert heard.orders[-1].unreadable == ("/openvcha/x",)
    await until(lambda: service.failing.reasons.get("API: serving") == "port taken")
    assert service.failing.own == {"tasks": "no store"}, "told back to who has said it"
    heard.failing("API: serving", None)
    await until(lambda: "API: serving" not in service.failing.reasons)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make reports far more frequent than their timeout."""
    monkeypatch.setattr(orders, "STOP_REPEAT_SECONDS", 0.02)
    monkeypatch.setattr(orders, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(orders, "NOT_SERVING_ALARM_SECONDS", 0.4)


@pytest.mark.usefixtures("hurried")
async def test_an_api_that_does_not_serve_is_a_reason(service: Service, place: Path) -> None:
    """While it should; the failure clears when it serves. One that only tries counts as absent."""
    service.link.serve()
    await until(lambda: "API: process" in service.failing.reasons)
    service.link.end()
    await until(lambda: "API: process" not in service.failing.reasons)
    api = Heard(place)
    api.deaf = True
    service.link.serve()
    await until(lambda: "API: process" in service.failing.reasons)
    api.deaf, api.waits = False, True
    await asyncio.sleep(2 * orders.NOT_SERVING_ALARM_SECONDS)
    assert "API: process" in service.failing.reasons, "it has no port"
    api.waits = False
    await until(lambda: "API: process" not in service.failing.reasons)
    api.waits = True
    await until(lambda: "API: process" in service.failing.reasons)
    service.link.end()
    await until(lambda: not service.waits)
    await api.end()


async def test_what_an_api_has_said_ends_with_it(service: Service, place: Path) -> None:
    """A closed connection's reports no longer count."""
    api = Heard(place)
    api.failing("API: serving", "port taken")
    await until(lambda: "API: serving" in service.failing.reasons)
    await api.end()
    await until(lambda: "API: serving" not in service.failing.reasons)


@pytest.mark.usefixtures("hurried")
async def test_an_api_that_goes_on_to_serve_is_killed(service: Service, heard: Heard) -> None:
    """Another node leads by then, and on one machine needs the port."""
    service.link.serve()
    await until(lambda: heard.serves)
    heard.stuck = True
    service.link.end()
    await until(lambda: service.killed)
    assert service.killed == [os.getpid()]


async def test_an_api_that_has_ended_is_left_alone(
    service: Service, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it starts and ends: it reports it each time."""
    monkeypatch.setattr(orders, "HEARTBEAT_SECONDS", 0.01)
    for _ in range(3):
        service.link.serve()
        await until(lambda: heard.serves)
        assert service.waits
        service.link.end()
        await until(lambda: not service.waits)
    assert service.killed == []


@pytest.mark.usefixtures("hurried")
async def test_an_api_that_ends_requests_of_an_earlier_order_is_left_alone(
    service: Service, place: Path
) -> None:
    """While leadership comes and goes: it runs, holds no port, and reads the later orders next."""
    service.link.serve()
    await until(place.exists)
    reader, writer = await connect(place)
    first = msgspec.json.decode(await reader.readline(), type=Orders)
    for change in (service.link.end, service.link.serve, service.link.end):
        change()
    ending = Report(serving=False, listens=False, number=first.number + 1)
    for _ in range(3 * orders.MAX_STOP_ORDERS):
        await reader.readline()
        writer.write(msgspec.json.encode(ending) + b"\n")
    assert service.killed == []
    await until(lambda: service.killed)
    writer.transport.abort()


@pytest.mark.usefixtures("hurried")
async def test_what_was_said_before_the_end_is_no_answer_to_it(
    service: Service, place: Path
) -> None:
    """It was in transit while the orders changed."""
    service.link.serve()
    await until(place.exists)
    reader, writer = await connect(place)
    first = msgspec.json.decode(await reader.readline(), type=Orders)
    service.link.end()
    for number in (first.number, first.number - 1):
        writer.write(
            msgspec.json.encode(Report(serving=False, listens=False, number=number)) + b"\n"
        )
    await until(lambda: service.killed)
    writer.transport.abort()


@pytest.mark.usefixtures("hurried")
async def test_an_api_that_is_not_heard_any_more_is_killed(service: Service, place: Path) -> None:
    """It may still be serving."""
    service.link.serve()
    await until(place.exists)
    reader, writer = await connect(place)
    await reader.readline()
    writer.transport.abort()
    await until(lambda: service.link._writer is None)
    assert service.killed == []
    service.link.end()
    await until(lambda: service.killed)


LISTENER = """
import os, signal, socket, sys
folder = os.open(sys.argv[1], os.O_PATH)
with socket.socket(socket.AF_UNIX) as service:
    service.connect(f"/proc/self/fd/{folder}/api.sock")
    while b'"serve":true' not in service.recv(1 << 20):
        pass
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.usefixtures("hurried")
async def test_a_process_that_is_frozen_while_it_serves_is_killed(place: Path) -> None:
    """A real process: it keeps its port and its connections, and stays silent."""
    service = Service(place)
    service.link._kill = ApiLink(place, service.orders, service.told)._kill
    service.link.serve()
    await until(place.exists)
    frozen = await asyncio.create_subprocess_exec(sys.executable, "-c", LISTENER, str(place.parent))
    await until(lambda: (stat := read_stat(frozen.pid)) is not None and stat.state == "T")
    service.link.end()
    async with asyncio.timeout(LATEST):
        assert await frozen.wait() == -signal.SIGKILL
    await service.end()


async def test_an_api_that_does_not_read_holds_nobody_up(
    service: Service, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue is bounded: it is disconnected, and may connect again."""
    monkeypatch.setattr(orders, "HEARTBEAT_SECONDS", 0.0)
    service.unreadable = tuple("\x00" * 1000 for _ in range(1000))
    waiting: list[int] = []
    make = service.orders

    def counted(serve: bool) -> Orders:
        assert service.link._writer
        waiting.append(service.link._writer.transport.get_write_buffer_size())
        return make(serve)

    service.link._orders = counted
    await until(place.exists)
    with socket.socket(socket.AF_UNIX) as deaf:
        with short_path(place) as address:
            deaf.connect(address)
        await until(lambda: waiting and service.link._writer is None)
        assert MAX_LINE_BYTES / 2 < max(waiting) <= MAX_LINE_BYTES


@pytest.mark.parametrize("sent", [b"no JSON\n", b"[" * 5000 + b"\n", b"x" * (MAX_LINE_BYTES + 1)])
async def test_what_nobody_understands_ends_the_connection_only(
    service: Service, place: Path, heard: Heard, sent: bytes
) -> None:
    """The service goes on, and gives the next client its orders."""
    await until(place.exists)
    reader, writer = await connect(place)
    writer.write(sent)
    async with asyncio.timeout(LATEST):
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(1 << 16):
                pass
    service.link.serve()
    await until(lambda: heard.serves)
    writer.transport.abort()


def test_what_was_planted_in_the_store_is_bounded() -> None:
    """A thief may have written any number of names of any length: they always fit one line."""
    planted = ("\x00" * 100_000,) * 10_000
    failing = {f"{number}{planted[0]}": "\x00" * 10_000 for number in range(200)}
    told = Orders(serve=True, failing=failing, forged=planted)
    told = msgspec.structs.replace(told, unreadable=planted)
    assert len(msgspec.json.encode(orders.truncate(told))) < MAX_LINE_BYTES
