"""What the service and the API of a node tell each other, and how.

They are processes of their own, so that nothing that a client does to the API slows down who leads.
The service listens on a socket in the node's directory, the API connects to it. One line of JSON is
one message. The service sends its orders at each change and every second; an API that hears none
serves nobody. The API reports every second which order it has taken over, and whether it serves.
One that does not report in time that it has ended is killed: another node leads by then.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.daemon.local_socket import LONGEST_LINE, connect, lines, listen, other_end
from openvcha.node.process.process_tree import Process, send
from openvcha.store import bounded_json
from openvcha.store.structlog_light import structlog

BEAT_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 5.0
"""Some beats may be late on a busy machine; shorter than it takes another node to lead for sure."""
HURRY_SECONDS: Final = 0.2
END_BEATS: Final = 20
"""How many orders to end, one each HURRY_SECONDS, may go without a report that it has. They are
counted, and not the seconds: a service that was asleep itself has not read any report."""
UNHEARD_SECONDS: Final = 10.0
"""Longer than an API takes to know the cluster, and waits for a port that a killed one frees."""
RETRY_SECONDS: Final = 0.2
MOST_NAMES, LONGEST_NAME, LONGEST_REASON = 100, 512, 200
"""What others have made fail, or planted in the store, may be much and long."""

_log = structlog.get_logger(__name__)


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the service tells the API: whether to serve, and what is only known in the service.

    ``number`` grows with each change of ``serve``.
    ``failing`` is its background work that fails now, with the reasons; ``unreadable`` and
    ``forged`` are the keys in the store that it could not read, or that failed their check.
    """

    serve: bool
    number: int = 0
    failing: dict[str, str] = {}
    unreadable: tuple[str, ...] = ()
    forged: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the API tells the service: its background work that fails now, and whether it serves.

    ``number`` is that of the last order that it has taken over; ``serving`` is also true while it
    only tries to serve, and as long as it listens. ``listens``: clients can reach it now.
    """

    serving: bool
    listens: bool
    number: int = 0
    failing: dict[str, str] = {}


NOBODY: Final = Orders(serve=False)
"""What counts while nothing is heard of the service."""


def cut(orders: Orders) -> Orders:
    """Return orders that are no longer than a reader takes."""
    return Orders(
        serve=orders.serve,
        number=orders.number,
        failing=cut_reasons(orders.failing),
        unreadable=_cut_names(orders.unreadable),
        forged=_cut_names(orders.forged),
    )


def cut_reasons(failing: Mapping[str, str]) -> dict[str, str]:
    """Return what fails, with bounds for its number and its texts."""
    first = list(failing.items())[:MOST_NAMES]
    return {name[:LONGEST_NAME]: reason[: LONGEST_REASON + 1] for name, reason in first}


def _cut_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name[:LONGEST_NAME] for name in names[:MOST_NAMES])


class ApiLink:
    """The service's end: tells the API when to serve, while ``run`` runs.

    ``orders`` makes what is sent, by whether the API is to serve. ``told`` takes the reasons for
    which the API's work fails, each time it tells them. One API is told at a time: the last one
    that came. ``serve`` and ``end`` return at once, however the API is. ``kill`` ends a process
    that goes on to serve, and returns whether it was there.
    """

    def __init__(
        self,
        place: Path,
        orders: Callable[[bool], Orders],
        told: Callable[[Mapping[str, str]], None],
        *,
        kill: Callable[[Process], bool] | None = None,
    ) -> None:
        self._place = place
        self._orders = orders
        self._told = told
        self._kill = kill or partial(send, number=signal.SIGKILL)
        self._serves = False
        self._number = 0
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._process: Process | None = None
        self._may_serve: Process | None = None
        """Has been told to serve, and not yet said that it has ended; also when it is not heard."""
        self._unanswered = 0
        self._meetings: set[asyncio.Task[object]] = set()
        self._failing: Mapping[str, str] = {}
        self._heard = 0.0

    def serve(self) -> None:
        """Have the API serve, also one that begins later."""
        self._set(serves=True)

    def end(self) -> None:
        """Have the API end serving; one that does not is killed."""
        self._set(serves=False)

    async def run(self) -> None:
        """Listen and tell until canceled. Raises OSError."""
        self._heard = _now()
        with listen(self._place) as listener:
            server = await asyncio.start_unix_server(self._meet, sock=listener, limit=LONGEST_LINE)
            try:
                while True:
                    self._tell()
                    self._tell_reasons()
                    self._kill_who_does_not_end()
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._pause()):
                            await self._changed.wait()
            finally:
                server.close()
                self._part()
                await asyncio.gather(*self._meetings, return_exceptions=True)

    def _set(self, *, serves: bool) -> None:
        if serves != self._serves:
            self._number += 1
            self._unanswered = 0
            self._heard = _now()
        self._serves = serves
        # Not by the loop of `run`: an end is told before anything else is done.
        self._tell()
        self._tell_reasons()
        self._changed.set()

    def _pause(self) -> float:
        return HURRY_SECONDS if self._may_serve and not self._serves else BEAT_SECONDS

    def _tell(self) -> None:
        writer = self._writer
        if writer is None:
            return
        if writer.transport.get_write_buffer_size() > LONGEST_LINE:
            _log.warning("the API does not read its orders")
            self._part()
            return
        if self._serves:
            self._may_serve = self._process
        order = msgspec.structs.replace(self._orders(self._serves), number=self._number)
        writer.write(msgspec.json.encode(cut(order)) + b"\n")

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if meeting := asyncio.current_task():
            self._meetings.add(meeting)
            meeting.add_done_callback(self._meetings.discard)
        try:
            process = other_end(writer)
            self._part()
            self._writer, self._process = writer, process
            self._changed.set()
            async for line in lines(reader):
                self._take(writer, bounded_json.decode(line, Report))
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("cannot understand the API's report", reason=str(error))
        finally:
            writer.transport.abort()
            if self._writer is writer:
                self._part()

    def _take(self, writer: asyncio.StreamWriter, report: Report) -> None:
        if self._writer is not writer:
            return
        if not (self._serves or report.serving):
            # It lives and has no port, whatever it is still to read: it may be ending requests of
            # an earlier order. Each of them takes its seconds where the lead comes and goes.
            self._unanswered = 0
        if report.number == self._number:
            if self._serves and report.listens:
                self._heard = _now()
            elif not (self._serves or report.serving):
                self._may_serve = None
        self._failing = cut_reasons(report.failing)
        self._tell_reasons()

    def _part(self) -> None:
        """Let go the API that is told now; what it has said counts no more."""
        writer, self._writer = self._writer, None
        self._failing = {}
        if writer is not None:
            writer.transport.abort()

    def _tell_reasons(self) -> None:
        unheard = self._serves and _now() - self._heard > UNHEARD_SECONDS
        reason = f"it has not reported for {UNHEARD_SECONDS:.0f} seconds that it serves"
        self._told({**self._failing, **({"API: process": reason} if unheard else {})})

    def _kill_who_does_not_end(self) -> None:
        """Free the port for the node that leads now: a process that is frozen keeps it."""
        if self._serves or self._may_serve is None:
            return
        self._unanswered += 1
        if self._unanswered > END_BEATS:
            process, self._may_serve = self._may_serve, None
            if self._kill(process):
                _log.error("the API did not stop serving; killed", pid=process.pid)


async def orders_of(place: Path, report: Callable[[int], Report]) -> AsyncGenerator[Orders, None]:
    """Yield each order of the service; NOBODY as soon as it is gone, or silent for too long.

    ``report`` makes what the service is told, by the number of the order that was yielded last.
    """
    while True:
        try:
            reader, writer = await connect(place)
        except OSError:
            yield NOBODY
            await asyncio.sleep(RETRY_SECONDS)
            continue
        async with contextlib.aclosing(_told_by(reader, writer, report)) as orders:
            async for order in orders:
                yield order
        yield NOBODY


async def _told_by(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, report: Callable[[int], Report]
) -> AsyncGenerator[Orders, None]:
    """Yield the orders of one connection, and report by it meanwhile."""
    number = 0
    reporting = asyncio.create_task(_report_always(writer, lambda: report(number)))
    try:
        async with contextlib.aclosing(_heard(reader)) as heard:
            async for order in heard:
                number = order.number
                yield order
    finally:
        reporting.cancel()
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _report_always(writer: asyncio.StreamWriter, report: Callable[[], Report]) -> None:
    """Report also while an order is being carried out; who does not read misses some."""
    while True:
        transport = writer.transport
        if not transport.is_closing() and transport.get_write_buffer_size() < LONGEST_LINE:
            writer.write(msgspec.json.encode(report()) + b"\n")
        await asyncio.sleep(BEAT_SECONDS)


async def _heard(reader: asyncio.StreamReader) -> AsyncGenerator[Orders, None]:
    """Yield orders until there are none any more, for whatever reason."""
    async with contextlib.aclosing(lines(reader)) as found:
        while True:
            try:
                async with asyncio.timeout(SILENT_SECONDS):
                    order = bounded_json.decode(await anext(found), Orders)
            except StopAsyncIteration:
                return
            except (OSError, msgspec.DecodeError) as error:  # TimeoutError is an OSError
                _log.warning("the service is silent", reason=str(error) or "no order in time")
                return
            yield order


def _now() -> float:
    return asyncio.get_running_loop().time()


prepare(__name__)
