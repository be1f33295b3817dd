"""The public address: where clients reach PostgreSQL, whichever node leads."""

import asyncio
import contextlib
import socket

BACKLOG = 1024
CHUNK = 256 << 10
CONNECT_SECONDS = 5.0
PAUSE_SECONDS = 1.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Forwarder:
    """Forwards TCP connections from the public address to PostgreSQL on the HA address.

    On one machine two holders exclude each other, because only one of them can bind. The listening
    socket is its own, not one of asyncio's servers: those lose a connection that they have accepted
    and not yet handed over when they are closed, and its client would wait for ever.
    """

    def __init__(self, listen: tuple[str, int], target: tuple[str, int]) -> None:
        self._listen = listen
        self._target = target
        self._listener: socket.socket | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def held(self) -> bool:
        """Whether the address is held."""
        return self._listener is not None

    @property
    def port(self) -> int:
        """The port that is listened on; ValueError when the address is not held."""
        if self._listener is None:
            raise ValueError("the address is not held")
        return int(self._listener.getsockname()[1])

    async def acquire(self) -> None:
        """Take the address. Raises OSError while somebody else has it: try again."""
        if self._listener is None:
            self._listener = _listen(self._listen)
            self._watch(self._listener)

    async def release(self) -> None:
        """Give the address up: nothing is accepted any more and all connections end at once."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _watch(self, listener: socket.socket) -> None:
        if listener is self._listener:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # No more files may be open: it stays ready to be accepted, for as long as that is so.
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(PAUSE_SECONDS, self._watch, listener)
            return
        task = asyncio.create_task(self._forward(connection))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        # One that is canceled before it begins closes nothing by itself.
        task.add_done_callback(lambda _: connection.close())

    async def _forward(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                back = await asyncio.open_connection(*self._target)
        except (OSError, TimeoutError):
            return
        else:
            await _exchange((reader, writer), back)
        finally:
            writer.transport.abort()


def _listen(place: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    # Named, else asyncio does not know it as TCP and never sets TCP_NODELAY: an answer in two
    # writes then waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


async def _exchange(one: Streams, other: Streams) -> None:
    """Pass on what comes from either side until both have ended."""
    both = (_pipe(one[0], other[1]), _pipe(other[0], one[1]))
    pipes = [asyncio.create_task(pipe) for pipe in both]
    try:
        await asyncio.wait(pipes)
    finally:
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        other[1].transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
