"""How far the standbys are behind, measured on this node's own PostgreSQL.

A standby is measured too, by an API that observes before it serves: it has no standbys, which is
fine.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from psycopg import AsyncConnection, Error

from openvcha.cluster.observing.observation import Lag
from openvcha.node.engines import EngineMissing
from openvcha.system.structlog_light import structlog

ASK_SECONDS = 1.0
MAX_SAMPLES = 3600
QUERY = """
    select pg_wal_lsn_diff(case when pg_is_in_recovery()
               then coalesce(pg_last_wal_replay_lsn(), '0/0') else pg_current_wal_lsn() end,
               '0/0')::bigint,
           application_name, pg_wal_lsn_diff(replay_lsn, '0/0')::bigint,
           coalesce(extract(epoch from replay_lag), 0)::float8
      from (select 1) as one
      left join pg_stat_replication on replay_lsn is not null
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class StandbyPosition:
    """A standby's replay position; ``seconds`` is PostgreSQL's ``replay_lag``, 0 if unknown."""

    member: str
    replayed: int
    seconds: float


class WalHistory:
    """The primary's position over time, which shows when a standby stops and falls behind.

    PostgreSQL's ``replay_lag`` measures what *was* replayed; it stays the same for a standby that
    no longer replays. Positions are in bytes of WAL, times in seconds.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=MAX_SAMPLES)

    def note(self, now: float, written: int) -> None:
        """Record the primary's position."""
        if self._samples and written < self._samples[-1][1]:
            self._samples.clear()  # another timeline, with no samples yet
        if not self._samples or written > self._samples[-1][1]:
            self._samples.append((now, written))

    def lag(self, now: float, written: int, standby: StandbyPosition) -> Lag:
        """Return a standby's lag: in bytes, and in seconds since the primary passed it."""
        behind = max(0, written - standby.replayed)
        passed = next((at for at, place in self._samples if place > standby.replayed), now)
        seconds = max(standby.seconds, now - passed) if behind else 0.0
        return Lag(standby.member, behind, seconds)


class ReplicationLag:
    """A measurement over one connection, reopened when it is lost; failures count as unknown.

    ``connect`` returns a connection in autocommit.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[AsyncConnection]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._history = WalHistory()
        self._connection: AsyncConnection | None = None
        self._one_by_one = asyncio.Lock()

    async def __call__(self) -> tuple[Lag, ...]:
        """Return the lag of each standby that streams; empty if it cannot be measured now."""
        try:
            async with asyncio.timeout(ASK_SECONDS), self._one_by_one:
                written, standbys = await self._ask()
        except (Error, OSError, EngineMissing) as error:
            _log.debug("the standbys' lag is unknown", reason=str(error))
            await self.aclose()
            return ()
        now = self._clock()
        self._history.note(now, written)
        return tuple(self._history.lag(now, written, standby) for standby in standbys)

    async def aclose(self) -> None:
        """Close the connection; the next measurement opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _ask(self) -> tuple[int, list[StandbyPosition]]:
        if self._connection is None:
            self._connection = await self._connect()
        rows = await (await self._connection.execute(QUERY)).fetchall()
        standbys = [StandbyPosition(name, replayed, age) for _, name, replayed, age in rows if name]
        return int(rows[0][0]), standbys
