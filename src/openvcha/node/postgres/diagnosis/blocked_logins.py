"""Which session keeps new sessions from logging in: one that locks a system catalog.

Each login reads catalogs such as ``pg_authid`` and ``pg_database``. The views that show sessions
read them too, so only functions are used here: an open session can call them all the same.
"""

from datetime import UTC, datetime
from typing import Any

from psycopg import AsyncConnection

from openvcha.api.foreign_text import shown_name

HOLDER = """
    select session.pid, session.application_name,
           coalesce(session.xact_start, session.query_start)
      from pg_lock_status() as waiting
           cross join unnest(pg_blocking_pids(waiting.pid)) as holding (pid)
           join pg_stat_get_activity(null) as session on session.pid = holding.pid
     where not waiting.granted and waiting.locktype = 'relation'
       and waiting.relation::bigint < 16384
     order by 3 nulls last limit 1
"""
"""Objects below 16384 are the system's."""


async def find_login_blocker(session: AsyncConnection[Any]) -> str | None:
    """Return the session that has blocked logins for longest, for display; None if there is none.

    Raises psycopg.Error.
    """
    row = await (await session.execute(HOLDER)).fetchone()
    if row is None:
        return None
    pid, application, since = row
    shown = shown_name(application or "?")
    return f"process {pid} (application {shown}, since {_began(since)})"


def _began(since: datetime | None) -> str:
    return f"{since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if since else "?"
