"""The lines that a node's own programs exchange over a Unix socket in its directory."""

import asyncio
import select
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from openvcha.node.process.process_tree import Process, read_process
from openvcha.system.network.private_sockets import UntrustedPeerError, require_own_user, short_path

MAX_LINE_BYTES: Final = 1 << 20


async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the listener at a path. Raises OSError."""
    with short_path(path) as address:
        reader, writer = await asyncio.open_unix_connection(address, limit=MAX_LINE_BYTES)
    try:
        require_own_user(writer.get_extra_info("socket"))
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


async def read_lines(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """Yield lines until the end of the stream. Raises OSError, also for a line that is too long."""
    while True:
        try:
            line = await reader.readline()
        except ValueError as error:
            raise OSError(str(error)) from error
        if not line:
            return
        yield line


def peer_process(writer: asyncio.StreamWriter) -> Process:
    """Return the process at the other end. Raises UntrustedPeerError."""
    process = read_process(require_own_user(writer.get_extra_info("socket")))
    # While its end is open the process is alive, so its id has not been reused.
    if process is None or _has_hung_up(writer):
        raise UntrustedPeerError("it has already ended")
    return process


def _has_hung_up(writer: asyncio.StreamWriter) -> bool:
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
