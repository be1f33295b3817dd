"""A man in the middle: he forwards connections, or answers them with his own certificate."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.serving import serving

from openvcha.node.security.certificates import KeyPair, api_certificate, new_authority

PASS, OWN = "pass", "own"
PIECE = 1 << 16
ANSWER = (
    b'HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n"token"'
)


class TlsProxy:
    """Listens on loopback; ``plan`` has an action for each connection, the last one for all others.

    What he could read in the clear is in ``read``.
    """

    def __init__(self, target: int, plan: tuple[str, ...], tls: ssl.SSLContext) -> None:
        self._target = target
        self._plan = plan
        self._tls = tls
        self.connections = 0
        self.read = bytearray()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward a connection or impersonate the server, as planned for its number."""
        what = self._plan[min(self.connections, len(self._plan) - 1)]
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await (self._pass(reader, writer) if what == PASS else self._pose(writer, reader))
        writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        pumps = [asyncio.create_task(pump(reader, back)), asyncio.create_task(pump(there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in pumps:
                one.cancel()
            back.transport.abort()

    async def _pose(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
        await writer.start_tls(self._tls)
        while data := await reader.read(PIECE):
            self.read += data
            writer.write(ANSWER)
            await writer.drain()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward bytes until one side ends."""
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def middle(
    target: int, plan: tuple[str, ...], tls: ssl.SSLContext
) -> AsyncIterator[tuple[TlsProxy, int]]:
    """Listen in front of a port of 127.0.0.1; return the man and his port."""
    man = TlsProxy(target, plan, tls)
    async with serving(man.meet) as port:
        yield man, port


def own_certificate(directory: Path) -> KeyPair:
    """Create his certificate: the right names, by an authority that no client trusts."""
    pair = api_certificate(new_authority(), "127.0.0.1", "localhost")
    for name, data in (("crt", pair.certificate), ("key", pair.key)):
        (directory / f"middle.{name}").write_bytes(data)
    return pair


def server_tls(directory: Path, name: str = "middle") -> ssl.SSLContext:
    """Return the TLS context with which he answers."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(directory / f"{name}.crt", directory / f"{name}.key")
    return tls
