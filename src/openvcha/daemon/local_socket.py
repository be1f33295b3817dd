"""A socket in the node's directory, by which its own programs talk in lines, and nobody else."""

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Final

from openvcha.node.process.process_tree import Process, read_process

LONGEST_LINE: Final = 1 << 20
_CREDENTIALS: Final = struct.Struct("3i")  # process, user, group


class StrangerError(OSError):
    """At the other end is no living process of the own user."""


@contextlib.contextmanager
def listen(place: Path) -> Iterator[socket.socket]:
    """Listen at a path; what a process that was killed has left there is taken away."""
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        # Before it has a name: the file is made with these rights, and is never open to others.
        os.fchmod(listener.fileno(), 0o600)
        with near(place) as address:
            listener.bind(address)
        listener.listen()
        listener.setblocking(False)
        yield listener


async def connect(place: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to who listens at a path. Raises OSError."""
    with near(place) as address:
        reader, writer = await asyncio.open_unix_connection(address, limit=LONGEST_LINE)
    try:
        _require_own_user(writer)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


async def lines(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    """Yield lines until the end. Raises OSError, also for a line that is too long."""
    while True:
        try:
            line = await reader.readline()
        except ValueError as error:
            raise OSError(str(error)) from error
        if not line:
            return
        yield line


def other_end(writer: asyncio.StreamWriter) -> Process:
    """Return the process that has connected. Raises StrangerError."""
    process = read_process(_require_own_user(writer))
    # While its end is open the process lives, so its id has not been given to another one.
    if process is None or _hung_up(writer):
        raise StrangerError("it has already ended")
    return process


def _require_own_user(writer: asyncio.StreamWriter) -> int:
    """Return the id of the process at the other end. Raises StrangerError for another user's."""
    connection = writer.get_extra_info("socket")
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(found)
    if user != os.geteuid():
        raise StrangerError(f"process {process} belongs to user {user}")
    return int(process)


def _hung_up(writer: asyncio.StreamWriter) -> bool:
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


@contextlib.contextmanager
def near(place: Path) -> Iterator[str]:
    """Yield a short name of a path: the address of a socket has room for 107 bytes."""
    folder = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{place.name}"
    finally:
        os.close(folder)
