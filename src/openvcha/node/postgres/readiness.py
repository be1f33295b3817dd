"""Whether a PostgreSQL server accepts connections, by the first message of a login.

libpq's own ping holds Python's lock until the server responds: a silent server would stop the whole
program for seconds.
"""

import asyncio
import struct

PROTOCOL = 3 << 16
USER = "openvcha"
"""The server may refuse the role: that is a response."""
ERROR, STARTING = b"E", b"57P03"
"""The message type of an error, and ``cannot_connect_now``: starting, stopping or in recovery."""
MAX_BYTES = 1 << 16


async def accepts_connections(host: str, port: int, seconds: float) -> bool:
    """Return whether a server accepts connections, even if it refuses this one.

    It does not while it starts or stops. One that has not responded after ``seconds`` does not.
    """
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_startup())
                return _accepts(*await _message(reader))
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        return False


def _startup() -> bytes:
    names = b"".join(each.encode() + b"\0" for each in ("user", USER, "database", "postgres", ""))
    return struct.pack("!ii", len(names) + 8, PROTOCOL) + names


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the type and the body of a message. Raises ValueError for one that is too long."""
    kind, size = struct.unpack("!ci", await reader.readexactly(5))
    if not 4 <= size <= MAX_BYTES:
        raise ValueError(f"a message of {size} bytes")
    return kind, await reader.readexactly(size - 4)


def _accepts(kind: bytes, body: bytes) -> bool:
    if kind != ERROR:
        return True
    fields = {field[:1]: field[1:] for field in body.split(b"\0")}
    return fields.get(b"C") != STARTING
