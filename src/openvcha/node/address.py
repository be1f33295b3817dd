"""The public address: where clients reach PostgreSQL, whichever node leads."""

import asyncio
import contextlib

CHUNK = 256 << 10
CONNECT_SECONDS = 5.0


class Forwarder:
    """Forwards TCP connections from the public address to PostgreSQL on the HA address.

    On one machine two holders exclude each other, because only one of them can bind.
    """

    def __init__(self, listen: tuple[str, int], target: tuple[str, int]) -> None:
        self._listen = listen
        self._target = target
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def held(self) -> bool:
        """Whether the address is held."""
        return self._server is not None

    @property
    def port(self) -> int:
        """The port that is listened on; ValueError when the address is not held."""
        if self._server is None:
            raise ValueError("the address is not held")
        return int(self._server.sockets[0].getsockname()[1])

    async def acquire(self) -> None:
        """Take the address. Raises OSError while somebody else has it: try again."""
        if self._server is None:
            host, port = self._listen
            self._server = await asyncio.start_server(self._accept, host, port)

    async def release(self) -> None:
        """Give the address up: nothing is accepted any more and all connections end at once."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._server is None:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            await self._forward(reader, writer)
        except asyncio.CancelledError:
            # Ended by release(); asyncio's server would report a cancelled handler as a fault.
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                back_reader, back_writer = await asyncio.open_connection(*self._target)
        except (OSError, TimeoutError):
            return
        try:
            both = (_pipe(reader, back_writer), _pipe(back_reader, writer))
            pipes = [asyncio.create_task(pipe) for pipe in both]
            try:
                await asyncio.wait(pipes)
            finally:
                for pipe in pipes:
                    pipe.cancel()
                await asyncio.gather(*pipes, return_exceptions=True)
        finally:
            back_writer.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
