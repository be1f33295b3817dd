"""One small request to a part of this or another node: no client is kept, nothing is loaded."""

import asyncio
import ssl

_FAILED = (OSError, TimeoutError, ssl.SSLError, asyncio.IncompleteReadError)


async def ask(endpoint: str, path: str, tls: ssl.SSLContext, seconds: float) -> bytes | None:
    """Get a page whole, head and body; None when there is no answer within ``seconds``."""
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
        return await reader.read()
    finally:
        writer.transport.abort()
