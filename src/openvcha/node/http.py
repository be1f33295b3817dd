"""Small HTTP requests to a part of this or another node, without an HTTP client library."""

import asyncio
import ssl
from typing import Final

from openvcha.store.http.tls_sessions import TlsSessions

MAX_RESPONSE_BYTES: Final = 1 << 20
"""The maximum that is read of a response, which may be endless."""

_FAILED = (OSError, TimeoutError, ssl.SSLError, asyncio.IncompleteReadError)


async def ask(
    endpoint: str,
    path: str,
    tls: ssl.SSLContext,
    seconds: float,
    sessions: TlsSessions | None = None,
) -> bytes | None:
    """Return the body of a response, truncated; None if there is none within ``seconds``.

    A caller that repeats its requests should keep ``sessions``.
    """
    try:
        async with asyncio.timeout(seconds):
            return body_of(await _get(endpoint, path, tls, sessions or TlsSessions()))
    except _FAILED:
        return None


async def _get(endpoint: str, path: str, tls: ssl.SSLContext, sessions: TlsSessions) -> bytes:
    host, _, port = endpoint.partition("://")[2].rpartition(":")
    server = host.strip("[]"), int(port)
    reader, writer = await asyncio.open_connection(*server, ssl=sessions.resuming(server, tls))
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = await read_bounded(reader)
        sessions.note(server, tls, writer.get_extra_info("ssl_object"))
        return answer
    finally:
        writer.transport.abort()


def body_of(answer: bytes) -> bytes | None:
    """Return the body of a response; None if its head is incomplete."""
    _, end, body = answer.partition(b"\r\n\r\n")
    return body if end else None


async def read_bounded(reader: asyncio.StreamReader) -> bytes:
    """Read to the end, at most MAX_RESPONSE_BYTES."""
    data = bytearray()
    while len(data) < MAX_RESPONSE_BYTES and (
        piece := await reader.read(MAX_RESPONSE_BYTES - len(data))
    ):
        data += piece
    return bytes(data)
