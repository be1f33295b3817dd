"""How many clients the public address of the data takes, and who of them is still logging in."""

import re
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from openvcha.node.layout import Layout

KEPT_FREE: Final = 20
"""Places that PostgreSQL keeps for superusers and the cluster's roles, and some for cancels."""
FALLBACK: Final = 200
"""The cluster's own ``max_connections``, where PostgreSQL has not been started yet."""
DESCRIPTORS_KEPT: Final = 400
"""For the store, PostgreSQL, the other nodes, and clients that have not said anything yet."""

HEAD_BYTES: Final = 8
_HEAD = struct.Struct("!ii")
SSL_REQUEST, GSS_REQUEST, CANCEL = 80877103, 80877104, 80877102
_TLS_RECORD: Final = 0x16
_MOST = re.compile(rb'"--max_connections=(\d{1,7})"')


def most_clients(layout: Layout) -> Callable[[], int]:
    """Return what counts the clients that the PostgreSQL of a node takes besides the cluster."""
    return lambda: places(max_connections(layout.pgdata / "postmaster.opts"), _descriptors())


def places(connections: int, descriptors: int) -> int:
    """Return for how many clients there are places, and descriptors for both of their sides."""
    return max(1, min(connections - KEPT_FREE, (descriptors - DESCRIPTORS_KEPT) // 2))


def max_connections(options: Path) -> int:
    """Read with how many connections PostgreSQL was started last: Patroni says so by an option."""
    try:
        found = _MOST.search(options.read_bytes())
    except OSError:
        found = None
    return int(found[1]) if found else FALLBACK


def _descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Login:
    """Follows a client's log-in from outside, by whose turn it was.

    With TLS nobody sees more. A log-in by SCRAM takes three messages of the client, one more with
    TLS from the beginning, two more where TLS is asked for first; each waits for an answer. Who
    trickles may pass for logged in: PostgreSQL's own limit of time ends that.
    """

    def __init__(self, head: bytes) -> None:
        """``head`` is the first HEAD_BYTES that the client has sent."""
        code = _HEAD.unpack(head)[1]
        self.cancels = code == CANCEL
        self._needed = 5 if code in {SSL_REQUEST, GSS_REQUEST} else 4 if _is_tls(head) else 3
        self._turns = 1
        self._clients = True
        self.over = False
        """Whether it is over: the server has answered the last message."""

    def client(self) -> None:
        """Note that the client has sent something."""
        self._turns += not self._clients
        self._clients = True

    def server(self) -> None:
        """Note that the server has sent something."""
        self._clients = False
        self.over = self.over or self._turns >= self._needed


def _is_tls(head: bytes) -> bool:
    return head[0] == _TLS_RECORD


def too_many() -> bytes:
    """Return PostgreSQL's own message for it, which every client understands."""
    fields = (b"SFATAL", b"VFATAL", b"C53300", b"Msorry, too many clients already", b"")
    body = b"".join(field + b"\0" for field in fields)
    return b"E" + struct.pack("!i", len(body) + 4) + body
