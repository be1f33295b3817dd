"""A standby that is promoted ends the sessions that delay its replay.

Patroni 4.1 requests the promotion and waits. PostgreSQL first replays what it has received, and a
conflicting query may delay that for 30 s, during which the database is unavailable. A paused or
delayed replay continues by itself when a promotion is requested.
"""

import threading
from collections.abc import Callable
from importlib import import_module
from logging import getLogger
from typing import Any

from openvcha.node.postgres.diagnosis.replay import HOLDERS, holder

FIRST_SECONDS = 0.1
"""An undelayed promotion takes less."""
POLL_SECONDS = 0.1
CONNECTION = "takeover"
END = "select pg_terminate_backend(%s)"

_log = getLogger(__name__)

Promote = Callable[..., Any]

REPLACES = {
    "patroni.postgresql:Postgresql.promote": "c02e99aa294c804a",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    postgresql: Any = import_module("patroni.postgresql")
    connections = import_module("patroni.postgresql.connection")
    if not (connections.ConnectionPool.get and connections.NamedConnection.query):
        raise AttributeError("Patroni connects otherwise")
    postgresql.Postgresql.promote = ending_holders(postgresql.Postgresql.promote)


def ending_holders(original: Promote) -> Promote:
    """Run ``original``, and meanwhile end sessions that delay the replay."""

    def promote(self: Any, *arguments: Any, **options: Any) -> Any:
        over = threading.Event()
        ending = threading.Thread(target=_end_holders, args=(self, over), daemon=True)
        ending.start()
        try:
            return original(self, *arguments, **options)
        finally:
            over.set()
            ending.join()

    return promote


def _end_holders(postgresql: Any, over: threading.Event) -> None:
    """End such sessions until the promotion is over; retry failed queries."""
    connection = postgresql.connection_pool.get(CONNECTION)
    pause = FIRST_SECONDS
    while not over.wait(pause):
        pause = POLL_SECONDS
        try:
            end_holders(connection.query)
        except Exception as error:  # noqa: BLE001 - it must not delay a promotion
            _log.warning("cannot find out what holds up replay: %s", error)
    connection.close(True)


def end_holders(query: Callable[..., list[tuple[Any, ...]]]) -> None:
    """Query once, and end the sessions that delay the replay. Raises what ``query`` raises."""
    for found in map(holder, query(HOLDERS)):
        _log.warning(
            "ending the session %s (user %s, application %s), which holds up replay",
            found.pid,
            found.user,
            found.application,
        )
        query(END, found.pid)
