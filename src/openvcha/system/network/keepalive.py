"""Limits after which TCP takes a silent peer for lost."""

import socket
from typing import Final

IDLE_SECONDS: Final = 5
"""The silence after which the peer is probed."""
INTERVAL_SECONDS: Final = 2
PROBES: Final = 3
UNACKNOWLEDGED_SECONDS: Final = 10
"""How long data sent may remain unacknowledged."""


def detect_lost_peer(connection: socket.socket) -> None:
    """Have the kernel end a TCP connection whose peer is lost. Raises OSError."""
    for option, value in (
        (socket.TCP_KEEPIDLE, IDLE_SECONDS),
        (socket.TCP_KEEPINTVL, INTERVAL_SECONDS),
        (socket.TCP_KEEPCNT, PROBES),
        (socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_SECONDS * 1000),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
