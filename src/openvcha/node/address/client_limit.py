"""The limit of clients at the public address of the data, and which of them have logged in."""

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
AUTHENTICATION_SECONDS: Final = 15
"""PostgreSQL's ``authentication_timeout``."""
LOGIN_LIMIT_SECONDS: Final = 2.0 * AUTHENTICATION_SECONDS + 5.0
"""PostgreSQL ends a longer login: its limit counts once to the start message, with the handshake of
TLS, and once more from there on; and its process may be late to start."""
SSL_REQUEST, GSS_REQUEST, CANCEL = 80877103, 80877104, 80877102
_TLS_RECORD: Final = 0x16
_NO_ENCRYPTION: Final = b"N"
_AUTHENTICATION: Final = b"R"
_BEFORE_LOGIN: Final = (_AUTHENTICATION, b"v", b"E")
"""What PostgreSQL may send to a client that has not logged in: a request, a version, an error."""
_CONFIRMED = struct.Struct("!cii")
_LEAST_LENGTH: Final = 8
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
    """A client's login, followed from outside in what PostgreSQL sends, as far as it is readable.

    TLS hides it, and how many messages a handshake takes is the client's choice. Then the title of
    the session's process shows it (sessions.py); or that PostgreSQL has not ended the connection
    after LOGIN_LIMIT_SECONDS.
    """

    def __init__(self, head: bytes) -> None:
        """``head`` is the first HEAD_BYTES from the client."""
        code = _HEAD.unpack(head)[1]
        self.cancels = code == CANCEL
        self.is_confirmed = False
        """Whether PostgreSQL is known to have confirmed the login."""
        self._negotiates = code in {SSL_REQUEST, GSS_REQUEST}
        self._is_readable = head[0] != _TLS_RECORD
        self._unread = b""
        self._skip = 0

    def server_sent(self, data: bytes) -> None:
        """Read data from the server."""
        if not self._is_readable or self.is_confirmed:
            return
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._unread += data[skipped:]
        while self._is_readable and not self.is_confirmed and self._read_message():
            pass
        if not self._is_readable or self.is_confirmed:
            self._unread = b""

    def _read_message(self) -> bool:
        """Read one message; return whether there may be another."""
        unread = self._unread
        if self._negotiates and unread:
            if unread[:1] == _NO_ENCRYPTION:
                self._unread = unread[1:]
                return True
            self._negotiates = False
        if unread and unread[:1] not in _BEFORE_LOGIN:
            self._is_readable = False  # encrypted from here on
            return False
        if len(unread) < _CONFIRMED.size:
            return False
        kind, length, code = _CONFIRMED.unpack_from(unread)
        self._is_readable = length >= _LEAST_LENGTH
        self.is_confirmed = self._is_readable and (kind, code) == (_AUTHENTICATION, 0)
        self._skip = max(0, length + 1 - len(unread))
        self._unread = unread[length + 1 :]
        return True


def too_many_clients_error() -> bytes:
    """Return PostgreSQL's error "too many clients", which every client understands."""
    fields = (b"SFATAL", b"VFATAL", b"C53300", b"Msorry, too many clients already", b"")
    body = b"".join(field + b"\0" for field in fields)
    return b"E" + struct.pack("!i", len(body) + 4) + body
