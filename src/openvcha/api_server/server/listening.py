"""The socket at which clients connect."""

import errno
import socket
from typing import Any, Protocol

BACKLOG = 1024
STOP_SECONDS = 5
"""For running requests once a server stops."""


class AddressUnusableError(OSError):
    """The address cannot be bound: it is in use, not on this machine, or not permitted."""


class Listener(Protocol):
    """A source of clients' connections: a listening socket, or what another process accepts."""

    def fileno(self) -> int:
        """Return the descriptor that is readable once a connection waits."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection with its peer's address, never waiting.

        Raises OSError; BlockingIOError if none waits, ConnectionAbortedError if that one is lost,
        EOFError if no more will come.
        """

    def getsockname(self) -> Any:
        """Return the address that clients connect to, which begins with host and port."""

    def close(self) -> None:
        """Accept no more connections."""


def listen(address: str, port: int) -> socket.socket:
    """Listen at an address, which no other process can do then. Raises AddressUnusableError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # IPPROTO_TCP, else asyncio does not recognize TCP and never sets TCP_NODELAY: a response in
    # two writes then waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise AddressUnusableError(error.errno, _why(error, address, port)) from error
    return listener


async def listen_directly(address: str, port: int) -> Listener:
    """Listen at an address of this machine, as ``listen``."""
    return listen(address, port)


def _why(error: OSError, address: str, port: int) -> str:
    known = {
        errno.EADDRINUSE: "another process is already listening there",
        errno.EADDRNOTAVAIL: "this machine does not have the address",
        errno.EACCES: "no permission for this port",
    }
    reason = known.get(error.errno or 0, error.strerror)
    return f"cannot listen on {address} port {port}: {reason}"
