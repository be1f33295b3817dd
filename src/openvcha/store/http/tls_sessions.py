"""TLS handshakes that go on from the last one with the same server, at half the cost for both.

A session belongs to the context that it began with: new certificates of our own begin anew. A
server that was started again, or has new certificates, does not know it, and then both shake hands
as if there were none. Neither shows its certificate where the session is known, so one counts for
RESUMED_SECONDS from the handshake in which both did.
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
"""A host and a port."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A session, the context that it belongs to, and until when (on the clock) it counts."""

    context: ssl.SSLContext
    session: ssl.SSLSession
    until: float


class _Resuming:
    """A context that begins by a session. asyncio asks this of a context, and nothing else."""

    def __init__(self, known: _Known) -> None:
        self._known = known

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> ssl.SSLObject:
        """Return what speaks TLS over two buffers."""
        return self._known.context.wrap_bio(
            incoming, outgoing, server_side, server_hostname, self._known.session
        )


class TlsSessions:
    """The last session with each server. ``clock`` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[Server, _Known] = OrderedDict()

    def resuming(self, server: Server, context: ssl.SSLContext) -> ssl.SSLContext:
        """Return what to connect to a server with: the context, or one that resumes its session."""
        known = self._known.get(server)
        if known is None or known.context is not context or self._clock() >= known.until:
            return context
        return cast("ssl.SSLContext", _Resuming(known))

    def note(self, server: Server, context: ssl.SSLContext, spoken: ssl.SSLObject | None) -> None:
        """Keep the session of a connection: after its first answer, by which it has a ticket.

        One that was resumed is there already: to ask for it costs as much as it saves.
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
