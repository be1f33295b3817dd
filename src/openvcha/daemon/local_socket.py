"""A Unix socket in the node's directory over which only its own programs exchange lines."""

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

MAX_LINE_BYTES: Final = 1 << 20
_CREDENTIALS: Final = struct.Struct("3i")  # process, user, group


class UntrustedPeerError(OSError):
    """The peer is not a running process of this user."""


@contextlib.contextmanager
def listen(path: Path) -> Iterator[socket.socket]:
    """Listen at a path; remove what a killed process left there."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        # Before binding: the file gets these permissions and is never open to others.
        os.fchmod(listener.fileno(), 0o600)
        with short_path(path) as address:
            listener.bind(address)
        listener.listen()
        listener.setblocking(False)
        yield listener


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


def connect_socket(path: Path) -> socket.socket:
    """Return a non-blocking socket that is connected to the listener at a path, never waiting.

    Raises OSError: BlockingIOError if the listener's backlog is full.
    """
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.setblocking(False)
        with short_path(path) as address:
            peer.connect(address)
        require_own_user(peer)
    except BaseException:
        peer.close()
        raise
    return peer


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


def require_own_user(connection: socket.socket) -> int:
    """Return the pid at the other end. Raises UntrustedPeerError for a process of another user."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(found)
    if user != os.geteuid():
        raise UntrustedPeerError(f"process {process} belongs to user {user}")
    return int(process)


def _has_hung_up(writer: asyncio.StreamWriter) -> bool:
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Yield a short alias of a path: a Unix socket's address holds at most 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
