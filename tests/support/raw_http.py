"""HTTP written by hand, byte for byte."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from tests.support.edge import Served


@contextlib.asynccontextmanager
async def raw(served: Served) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Return a bare TLS connection."""
    context = ssl.create_default_context(cafile=str(served.tls.authority))
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Return what arrives until the server closes or resets the connection."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""
