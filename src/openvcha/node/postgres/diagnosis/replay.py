"""A standby's replay: its position, and the sessions that delay it.

PostgreSQL lets a reader on a standby delay replay for 30 s (``max_standby_streaming_delay``), and
checks nothing else meanwhile: neither a new value of that setting nor a promotion request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from openvcha.api.foreign_text import shown_name

REPLAYED = """
    select coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0)::bigint,
           pg_is_in_recovery(),
           pg_is_in_recovery() and pg_get_wal_replay_pause_state() <> 'not paused',
           current_setting('recovery_min_apply_delay')
"""
HOLDERS = """
    with replayer as (
        select pid, wait_event from pg_stat_activity where backend_type = 'startup'
    ), awaited as (
        select lock.* from pg_locks as lock join replayer using (pid) where not granted
    ), snapshots as (
        select max(age(backend_xmin)) as oldest
          from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
    )
    select session.pid, session.usename, session.application_name,
           coalesce(session.xact_start, session.query_start)
      from pg_stat_activity as session cross join replayer cross join snapshots
     where session.pid not in (pg_backend_pid(), replayer.pid)
       and (exists (select from pg_locks as held join awaited using (locktype)
                     where held.granted and held.pid = session.pid
                       and held.database is not distinct from awaited.database
                       and held.relation is not distinct from awaited.relation
                       and held.objid is not distinct from awaited.objid)
            or replayer.wait_event in ('RecoveryConflictSnapshot', 'BufferPin')
               and session.backend_type = 'client backend'
               and age(session.backend_xmin) = snapshots.oldest)
     order by 4
"""
"""Sessions that hold a lock for which replay waits; of old snapshots only the oldest: the next one
may not conflict at all."""


@dataclass(frozen=True)
class Holder:
    """A session that delays replay; its names are the client's, truncated."""

    pid: int
    user: str
    application: str
    since: datetime | None

    @property
    def began(self) -> str:
        """Return when its transaction began, for display."""
        return f"{self.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if self.since else "?"


@dataclass(frozen=True)
class Replay:
    """The replay of a server: ``position`` in bytes of the log, ``delay`` as PostgreSQL shows it.

    A primary counts as having replayed everything.
    """

    position: int
    standby: bool
    paused: bool
    delay: str
    holders: tuple[Holder, ...] = ()

    @property
    def delayed(self) -> bool:
        """Return whether replay is configured to be delayed."""
        return self.delay != "0"


def holder(row: Sequence[Any]) -> Holder:
    """Return the session in a row of HOLDERS."""
    pid, user, application, since = row
    return Holder(int(pid), shown_name(user or "?"), shown_name(application or "?"), since)
