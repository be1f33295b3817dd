"""One small request to a part of this or another node: no client is kept, nothing is loaded."""

import asyncio
import ssl
from typing import Final

MOST_BYTES: Final = 1 << 20
"""That is read of an answer: whoever answers may go on for ever."""

_FAILED = (OSError, TimeoutError, ssl.SSLError, asyncio.IncompleteReadError)


async def ask(endpoint: str, path: str, tls: ssl.SSLContext, seconds: float) -> bytes | None:
    """Get a page, head and body, up to a bound; None: there is no answer within ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            return await _get(endpoint, path, tls)
    except _FAILED:
        return None


async def _get(endpoint: str, path: str, tls: ssl.SSLContext) -> bytes:
    host, _, port = endpoint.partition("://")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=tls)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        return await read_bounded(reader)
    finally:
        writer.transport.abort()


async def read_bounded(reader: asyncio.StreamReader) -> bytes:
    """Read to the end, or until MOST_BYTES are there: the rest is left."""
    data = bytearray()
    while len(data) < MOST_BYTES and (piece := await reader.read(MOST_BYTES - len(data))):
        data += piece
    return bytes(data)
