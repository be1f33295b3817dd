"""Sockets that travel between processes as descriptors, over Unix sockets."""

import contextlib
import os
import socket
from typing import Final

MAX_BYTES: Final = 4096


class SharedSocket(socket.socket):
    """A connection of which another process has a descriptor too.

    Closing it ends the connection; otherwise the peer would notice only once the other process
    has closed its descriptor as well.
    """

    def close(self) -> None:
        """End the connection in both directions, and close the descriptor."""
        if self.fileno() >= 0:
            with contextlib.suppress(OSError):
                self.shutdown(socket.SHUT_RDWR)
        super().close()


def pass_socket(channel: socket.socket, data: bytes, passed: socket.socket) -> None:
    """Send data with a socket; the caller closes its own descriptor.

    ``channel`` is non-blocking. Raises OSError: BlockingIOError if too many are on the way.
    """
    socket.send_fds(channel, [data], [passed.fileno()])


def receive(channel: socket.socket, size: int = MAX_BYTES) -> tuple[bytes, SharedSocket | None]:
    """Return the next data, and the socket that came with them; no data: the end of file.

    The kernel drops a socket for which this process has no free descriptor. Raises OSError;
    BlockingIOError if nothing has arrived.
    """
    data, descriptors, _, _ = socket.recv_fds(channel, size, 1, socket.MSG_CMSG_CLOEXEC)
    return data, SharedSocket(fileno=descriptors[0]) if descriptors else None


def close_copy(passed: socket.socket) -> None:
    """Close this process's descriptor of a connection that goes on in another process."""
    os.close(passed.detach())
