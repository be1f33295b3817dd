"""Where the forwarder's clients come from: a listening socket, or what another process accepts."""

import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

BACKLOG: Final = 1024


class Listener(Protocol):
    """A source of clients' connections."""

    def fileno(self) -> int:
        """Return the descriptor that is readable once a connection waits."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection with its peer's address, never waiting.

        Raises OSError; BlockingIOError if none waits, ConnectionAbortedError if that one is lost,
        EOFError if no more will come: then another process holds the address.
        """

    def getsockname(self) -> Any:
        """Return the address that clients connect to, which begins with host and port."""

    def close(self) -> None:
        """Accept no more connections."""


Listen = Callable[[tuple[str, int]], Awaitable[Listener]]
"""Listens at an address and a port. Raises OSError while another process holds them."""


async def listen(place: tuple[str, int]) -> socket.socket:
    """Listen at an address and a port of this machine. Raises OSError."""
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    # IPPROTO_TCP: otherwise asyncio does not recognize TCP and never sets TCP_NODELAY. A response
    # in two writes would then wait 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
