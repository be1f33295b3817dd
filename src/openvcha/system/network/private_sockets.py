"""Unix sockets over which only programs of one account talk to each other."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CREDENTIALS: Final = struct.Struct("3i")  # process, user, group


class UntrustedPeerError(OSError):
    """The peer is not a running process of this user."""


@contextlib.contextmanager
def listen(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    """Listen at a path (0600), non-blocking; remove what a killed process left there."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, kind) as listener:
        # Before binding: the file gets these permissions and is never open to others.
        os.fchmod(listener.fileno(), 0o600)
        with short_path(path) as address:
            listener.bind(address)
        listener.listen()
        listener.setblocking(False)
        yield listener


def connect_socket(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Return a non-blocking socket that is connected to the listener at a path, never waiting.

    Raises OSError: BlockingIOError if the listener's backlog is full.
    """
    peer = socket.socket(socket.AF_UNIX, kind)
    try:
        peer.setblocking(False)
        with short_path(path) as address:
            peer.connect(address)
        require_own_user(peer)
    except BaseException:
        peer.close()
        raise
    return peer


def require_own_user(connection: socket.socket) -> int:
    """Return the pid at the other end. Raises UntrustedPeerError for a process of another user."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(found)
    if user != os.geteuid():
        raise UntrustedPeerError(f"process {process} belongs to user {user}")
    return int(process)


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Yield a short alias of a path: a Unix socket's address holds at most 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
