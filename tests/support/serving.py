"""Serving connections for the length of a block: afterwards nothing of them is left."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]

TURNS = 3
"""Of the loop, in which it finishes what is scheduled: the task of an accepted connection makes
its transport, which then calls the protocol; an aborted transport closes its socket."""


class _Connections:
    """What a server has accepted: its tasks, and the writers that it gave to the handler."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._accepting: set[asyncio.Task[None]] = set()
        self._handling: set[asyncio.Future[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    def protocol(self) -> asyncio.StreamReaderProtocol:
        """Return the protocol of one more connection; its accepting task calls this."""
        if task := asyncio.current_task():
            self._accepting.add(task)
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._meet)

    def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if (handled := self._handle(reader, writer)) is not None:
            self._handling.add(asyncio.ensure_future(handled))

    async def end(self) -> None:
        """Cancel the handshakes and the handlers, and close the connections."""
        for tasks in (self._accepting, self._handling):
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await _turns()


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(
    handle: Handler,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    tls: ssl.SSLContext | None = None,
    backlog: int = 100,
) -> AsyncIterator[int]:
    """Call ``handle`` with each connection, in a task if it is awaitable; return the port.

    At the end, handlers that still run are cancelled. Their errors count for nothing: most are
    those of a client that has left.
    """
    connections = _Connections(handle)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connections.protocol, host, port, ssl=tls, backlog=backlog)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        # In Python 3.11 an accepted connection is lost if its server is closed before its task
        # has begun: no more are accepted, then each gets its turns.
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
        await _turns()
        server.close()
        await connections.end()
