"""The limit of clients at the public address of the data, and which of them are logging in."""

import re
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from openvcha.node.layout import Layout

RESERVED_CONNECTIONS: Final = 20
"""Connections that PostgreSQL reserves for superusers and the cluster's roles, and for cancels."""
DEFAULT_MAX_CONNECTIONS: Final = 200
"""The cluster's own ``max_connections``, used before PostgreSQL was first started."""
RESERVED_DESCRIPTORS: Final = 400
"""For the store, PostgreSQL, the other nodes, and silent clients."""

HEAD_BYTES: Final = 8
_HEAD = struct.Struct("!ii")
SSL_REQUEST, GSS_REQUEST, CANCEL = 80877103, 80877104, 80877102
_TLS_RECORD: Final = 0x16
_MAX_CONNECTIONS_OPTION = re.compile(rb'"--max_connections=(\d{1,7})"')


def client_limit(layout: Layout) -> Callable[[], int]:
    """Return a function that computes how many clients a node's PostgreSQL accepts."""
    return lambda: max_clients(max_connections(layout.pgdata / "postmaster.opts"), _descriptors())


def max_clients(connections: int, descriptors: int) -> int:
    """Return the number of clients for which there are enough connections and descriptors."""
    return max(
        1, min(connections - RESERVED_CONNECTIONS, (descriptors - RESERVED_DESCRIPTORS) // 2)
    )


def max_connections(options: Path) -> int:
    """Read ``max_connections`` from PostgreSQL's last start: Patroni passes it as an option."""
    try:
        found = _MAX_CONNECTIONS_OPTION.search(options.read_bytes())
    except OSError:
        found = None
    return int(found[1]) if found else DEFAULT_MAX_CONNECTIONS


def _descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Login:
    """A client's login, followed from outside by counting messages in each direction.

    TLS hides everything else. A SCRAM login takes three messages of the client, one more with
    direct TLS, two more if it requests TLS first; each one waits for a reply. A client that sends
    byte by byte may pass as logged in; PostgreSQL's own timeout ends that connection.
    """

    def __init__(self, head: bytes) -> None:
        """``head`` is the first HEAD_BYTES from the client."""
        code = _HEAD.unpack(head)[1]
        self.cancels = code == CANCEL
        self._needed = 5 if code in {SSL_REQUEST, GSS_REQUEST} else 4 if _is_tls(head) else 3
        self._turns = 1
        self._clients = True
        self.over = False
        """Whether the login is complete: the server has replied to its last message."""

    def client_sent(self) -> None:
        """Count data from the client."""
        self._turns += not self._clients
        self._clients = True

    def server_sent(self) -> None:
        """Count data from the server."""
        self._clients = False
        self.over = self.over or self._turns >= self._needed


def _is_tls(head: bytes) -> bool:
    return head[0] == _TLS_RECORD


def too_many_clients_error() -> bytes:
    """Return PostgreSQL's error "too many clients", which every client understands."""
    fields = (b"SFATAL", b"VFATAL", b"C53300", b"Msorry, too many clients already", b"")
    body = b"".join(field + b"\0" for field in fields)
    return b"E" + struct.pack("!i", len(body) + 4) + body
