"""TLS handshakes that resume the last session with the same server, at half the cost for both.

A session belongs to the context that created it: new certificates of our own start a new one. A
server that has restarted or has new certificates does not know the session, and both then make a
full handshake. A resumed handshake shows no certificates, so a session is valid only for
RESUMED_SECONDS after the full handshake.
"""

import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

RESUMED_SECONDS: Final = 600.0
MOST_SERVERS: Final = 64

Server = tuple[str, int]
"""Host and port."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A session, the context that it belongs to, and its expiry (on the clock)."""

    context: ssl.SSLContext
    session: ssl.SSLSession
    until: float


class _Resuming:
    """A context that resumes a session. asyncio calls only this method of a context."""

    def __init__(self, known: _Known) -> None:
        self._known = known

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> ssl.SSLObject:
        """Return a TLS object over two buffers."""
        return self._known.context.wrap_bio(
            incoming, outgoing, server_side, server_hostname, self._known.session
        )


class TlsSessions:
    """The last session with each server. ``clock`` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[Server, _Known] = OrderedDict()

    def resuming(self, server: Server, context: ssl.SSLContext) -> ssl.SSLContext:
        """Return the context to connect with: ``context``, or one that resumes its session."""
        known = self._known.get(server)
        if known is None or known.context is not context or self._clock() >= known.until:
            return context
        return cast("ssl.SSLContext", _Resuming(known))

    def note(self, server: Server, context: ssl.SSLContext, spoken: ssl.SSLObject | None) -> None:
        """Keep a connection's session. Call it after the first response, which brings the ticket.

        A resumed session is known already: reading it again costs as much as resuming saves.
        """
        if spoken is None or spoken.session_reused:
            return
        session = spoken.session
        if session is None or not session.has_ticket:
            return
        self._known.pop(server, None)
        self._known[server] = _Known(context, session, self._clock() + RESUMED_SECONDS)
        if len(self._known) > MOST_SERVERS:
            self._known.popitem(last=False)
