"""The socket over which the API's workers register for the connections that they serve."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from openvcha.system.network.private_sockets import (
    UntrustedPeerError,
    connect_socket,
    listen,
    require_own_user,
)
from openvcha.system.structlog_light import structlog

NONE = 0

_log = structlog.get_logger(__name__)


def register(path: Path, number: int) -> socket.socket:
    """Register a worker by its number (1 to 255); return its non-blocking channel.

    Never waits. Raises OSError.
    """
    try:
        channel = connect_socket(path)
    except UntrustedPeerError:
        raise
    except OSError as error:
        reason = f"the API's distributor at {path} does not accept workers yet: {error.strerror}"
        raise OSError(reason) from error
    try:
        channel.sendall(bytes([number]))
    except BaseException:
        channel.close()
        raise
    return channel


async def accept_workers(path: Path, watch: Callable[[socket.socket], None]) -> None:
    """Pass the non-blocking channel of each worker to ``watch``, until canceled.

    Raises OSError.
    """
    loop = asyncio.get_running_loop()
    with listen(path) as listener:
        while True:
            channel, _ = await loop.sock_accept(listener)
            try:
                require_own_user(channel)
            except UntrustedPeerError as error:
                _log.warning("refused a worker of the API", reason=str(error))
                channel.close()
            else:
                watch(channel)


def read_number(channel: socket.socket) -> int:
    """Return the number that a worker has sent; NONE if it has ended."""
    try:
        received = channel.recv(1)
    except OSError:
        received = b""
    return received[0] if received else NONE
