"""Connections that one process accepts and another one serves.

Each travels as a descriptor with one byte, over a Unix socket.
"""

import contextlib
import errno
import socket
from typing import Any, Final

from openvcha.system.network.passed_sockets import pass_socket, receive

_BYTE: Final = b"\0"


def pass_connection(channel: socket.socket, accepted: socket.socket) -> None:
    """Pass a connection on; the caller closes its own descriptor.

    ``channel`` is non-blocking. Raises OSError: BlockingIOError if too many are on the way.
    """
    pass_socket(channel, _BYTE, accepted)


class PassedConnections:
    """The connections that arrive over a channel, in place of a listening socket."""

    def __init__(self, channel: socket.socket, address: tuple[str, int]) -> None:
        """``address`` is where the other process listens. This object closes the channel."""
        self._channel = channel
        self._address = address
        channel.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable once a connection waits."""
        return self._channel.fileno()

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection with its peer's address, never waiting.

        Raises OSError; BlockingIOError if none waits, ConnectionAbortedError if that one is lost,
        EOFError if no more will come.
        """
        data, accepted = receive(self._channel, len(_BYTE))
        if not data:
            raise EOFError
        if accepted is None:
            # The kernel drops what it has no free descriptor for.
            raise OSError(errno.EMFILE, "no descriptor is left")
        try:
            return accepted, accepted.getpeername()
        except OSError as error:
            accepted.close()
            raise ConnectionAbortedError(error.errno, error.strerror) from error

    def getsockname(self) -> tuple[str, int]:
        """Return the address that clients connect to."""
        return self._address

    def close(self) -> None:
        """Accept no more connections; those on the way are closed."""
        with contextlib.suppress(OSError):
            self._channel.close()
