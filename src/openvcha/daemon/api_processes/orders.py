"""The protocol between a node's service and its API.

They are separate processes, so that clients of the API cannot slow down the one that leads. The
service listens on a Unix socket in the node's directory, and the API connects to it. Each message
is one line of JSON. The service sends its orders at each change and every second; an API that
receives none stops serving. Every second the API reports which order it has applied last, and
whether it serves. If it does not report in time that it has stopped, the service kills it: by then
another node leads.
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
from openvcha.daemon.api_processes.local_socket import (
    MAX_LINE_BYTES,
    connect,
    peer_process,
    read_lines,
)
from openvcha.node.process.process_tree import Process, send
from openvcha.store import bounded_json
from openvcha.system.network.private_sockets import listen
from openvcha.system.structlog_light import structlog

HEARTBEAT_SECONDS: Final = 1.0
SILENCE_TIMEOUT_SECONDS: Final = 5.0
"""Allows for late heartbeats on a busy machine; shorter than any other node needs to take over."""
STOP_REPEAT_SECONDS: Final = 0.2
MAX_STOP_ORDERS: Final = 20
"""How many orders to stop, one every STOP_REPEAT_SECONDS, may go unanswered. They are counted, not
seconds: a service that was suspended itself has not read any report."""
NOT_SERVING_ALARM_SECONDS: Final = 10.0
"""Longer than an API needs to observe the cluster and to get the port of one that was killed."""
RETRY_SECONDS: Final = 0.2
MAX_NAMES, MAX_NAME_LENGTH, MAX_REASON_LENGTH = 100, 512, 200
"""Bounds for what attackers can make fail or plant in the store."""

_log = structlog.get_logger(__name__)


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the service sends the API: whether to serve, and what only the service knows.

    ``number`` grows with each change of ``serve``. ``failing`` maps the service's failing
    background jobs to the reasons; ``unreadable`` and ``forged`` are the keys in the store that it
    could not read, or whose seal is invalid. ``term`` is the revision of the leader key, which
    entitles the API to the public address.
    """

    serve: bool
    number: int = 0
    term: int = 0
    failing: dict[str, str] = {}
    unreadable: tuple[str, ...] = ()
    forged: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the API reports to the service: whether it serves, and its failing background jobs.

    ``number`` is that of the last order that it applied. ``serving`` is also true while it only
    tries to serve, and as long as it listens. ``listens``: clients can reach it now.
    """

    serving: bool
    listens: bool
    number: int = 0
    failing: dict[str, str] = {}


NOT_SERVING: Final = Orders(serve=False)
"""Applies while the service is silent."""


def truncate(orders: Orders) -> Orders:
    """Return orders truncated to fit into one line of the protocol."""
    return Orders(
        serve=orders.serve,
        number=orders.number,
        term=orders.term,
        failing=truncate_reasons(orders.failing),
        unreadable=_truncate_names(orders.unreadable),
        forged=_truncate_names(orders.forged),
    )


def truncate_reasons(failing: Mapping[str, str]) -> dict[str, str]:
    """Return the failures, bounded in number and length."""
    first = list(failing.items())[:MAX_NAMES]
    return {name[:MAX_NAME_LENGTH]: reason[: MAX_REASON_LENGTH + 1] for name, reason in first}


def _truncate_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name[:MAX_NAME_LENGTH] for name in names[:MAX_NAMES])


class ApiLink:
    """The service's end of the socket, which orders the API to serve or to stop while ``run`` runs.

    ``orders`` returns what to send, given whether the API should serve. Each report passes the
    reasons why the API's jobs fail to ``on_failures``. Only the API that connected last gets
    orders. ``serve`` and ``end`` return at once, whatever state the API is in. ``kill`` ends a
    process that does not stop serving, and returns whether it existed.
    """

    def __init__(
        self,
        path: Path,
        orders: Callable[[bool], Orders],
        on_failures: Callable[[Mapping[str, str]], None],
        *,
        kill: Callable[[Process], bool] | None = None,
    ) -> None:
        self._path = path
        self._orders = orders
        self._on_failures = on_failures
        self._kill = kill or partial(send, number=signal.SIGKILL)
        self._serves = False
        self._number = 0
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._process: Process | None = None
        self._may_serve: Process | None = None
        """Ordered to serve, and has reported no stop since; kept when its connection is lost."""
        self._unanswered = 0
        self._connections: set[asyncio.Task[object]] = set()
        self._failing: Mapping[str, str] = {}
        self._last_serving = 0.0

    def serve(self) -> None:
        """Order the API to serve, including one that connects later."""
        self._set(serves=True)

    def end(self) -> None:
        """Order the API to stop serving; kill it if it does not."""
        self._set(serves=False)

    async def run(self) -> None:
        """Listen and send orders until canceled. Raises OSError."""
        self._last_serving = _now()
        with listen(self._path) as listener:
            server = await asyncio.start_unix_server(
                self._serve_connection, sock=listener, limit=MAX_LINE_BYTES
            )
            try:
                while True:
                    self._send_orders()
                    self._report_failures()
                    self._kill_unless_stopped()
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._pause()):
                            await self._changed.wait()
            finally:
                server.close()
                self._disconnect()
                await asyncio.gather(*self._connections, return_exceptions=True)

    def _set(self, *, serves: bool) -> None:
        if serves != self._serves:
            self._number += 1
            self._unanswered = 0
            self._last_serving = _now()
        self._serves = serves
        # Not left to the loop of `run`: an order to stop must go out before anything else happens.
        self._send_orders()
        self._report_failures()
        self._changed.set()

    def _pause(self) -> float:
        return STOP_REPEAT_SECONDS if self._may_serve and not self._serves else HEARTBEAT_SECONDS

    def _send_orders(self) -> None:
        writer = self._writer
        if writer is None:
            return
        if writer.transport.get_write_buffer_size() > MAX_LINE_BYTES:
            _log.warning("the API does not read its orders")
            self._disconnect()
            return
        if self._serves:
            self._may_serve = self._process
        order = msgspec.structs.replace(self._orders(self._serves), number=self._number)
        writer.write(msgspec.json.encode(truncate(order)) + b"\n")

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if task := asyncio.current_task():
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            process = peer_process(writer)
            self._disconnect()
            self._writer, self._process = writer, process
            self._changed.set()
            async for line in read_lines(reader):
                self._accept_report(writer, bounded_json.decode(line, Report))
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("cannot understand the API's report", reason=str(error))
        finally:
            writer.transport.abort()
            if self._writer is writer:
                self._disconnect()

    def _accept_report(self, writer: asyncio.StreamWriter, report: Report) -> None:
        if self._writer is not writer:
            return
        if not (self._serves or report.serving):
            # It is alive and does not listen, even if it has yet to read the newest order: it may
            # be ending requests of an earlier one, which takes seconds if the leader often changes.
            self._unanswered = 0
        if report.number == self._number:
            if self._serves and report.listens:
                self._last_serving = _now()
            elif not (self._serves or report.serving):
                self._may_serve = None
        self._failing = truncate_reasons(report.failing)
        self._report_failures()

    def _disconnect(self) -> None:
        """Drop the current API, and forget what it reported."""
        writer, self._writer = self._writer, None
        self._failing = {}
        if writer is not None:
            writer.transport.abort()

    def _report_failures(self) -> None:
        unheard = self._serves and _now() - self._last_serving > NOT_SERVING_ALARM_SECONDS
        reason = f"it has not reported for {NOT_SERVING_ALARM_SECONDS:.0f} seconds that it serves"
        self._on_failures({**self._failing, **({"API: process": reason} if unheard else {})})

    def _kill_unless_stopped(self) -> None:
        """Kill an API that does not stop: if frozen, it would keep the port from the new leader."""
        if self._serves or self._may_serve is None:
            return
        self._unanswered += 1
        if self._unanswered > MAX_STOP_ORDERS:
            process, self._may_serve = self._may_serve, None
            if self._kill(process):
                _log.error("the API did not stop serving; killed", pid=process.pid)


async def receive_orders(
    path: Path, report: Callable[[int], Report]
) -> AsyncGenerator[Orders, None]:
    """Yield each order of the service; NOT_SERVING when it exits, or is silent for too long.

    ``report`` returns the report to send, given the number of the order that was yielded last.
    """
    while True:  # not ``repeat``: each failure is an order as well
        try:
            reader, writer = await connect(path)
        except OSError:
            yield NOT_SERVING
            await asyncio.sleep(RETRY_SECONDS)
            continue
        async with contextlib.aclosing(_orders_of_connection(reader, writer, report)) as orders:
            async for order in orders:
                yield order
        yield NOT_SERVING


async def _orders_of_connection(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, report: Callable[[int], Report]
) -> AsyncGenerator[Orders, None]:
    """Yield the orders of one connection, and send reports over it meanwhile."""
    number = 0
    reporting = asyncio.create_task(_report_forever(writer, lambda: report(number)))
    try:
        async with contextlib.aclosing(_read_orders(reader)) as heard:
            async for order in heard:
                number = order.number
                yield order
    finally:
        reporting.cancel()
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _report_forever(writer: asyncio.StreamWriter, report: Callable[[], Report]) -> None:
    """Report every second, even while an order is applied; skip it while the peer does not read."""
    while True:
        transport = writer.transport
        if not transport.is_closing() and transport.get_write_buffer_size() < MAX_LINE_BYTES:
            writer.write(msgspec.json.encode(report()) + b"\n")
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _read_orders(reader: asyncio.StreamReader) -> AsyncGenerator[Orders, None]:
    """Yield orders until the connection ends, is silent or carries an invalid order."""
    async with contextlib.aclosing(read_lines(reader)) as found:
        while True:
            try:
                async with asyncio.timeout(SILENCE_TIMEOUT_SECONDS):
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
