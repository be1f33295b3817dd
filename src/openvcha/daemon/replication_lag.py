"""How far the standbys are behind: asked of this node's own PostgreSQL.

A standby is asked too, by an API that looks before it is to serve: it has none, and is no fault.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from psycopg import AsyncConnection, Error

from openvcha.cluster.observation import Lag
from openvcha.node.engines import EngineMissing
from openvcha.store.structlog_light import structlog

ASK_SECONDS = 1.0
KEPT_SAMPLES = 3600
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
class Position:
    """Where a standby has got to; ``seconds`` is PostgreSQL's own measure, 0 while unknown."""

    member: str
    replayed: int
    seconds: float


class History:
    """When the primary was where: so that a standby that stands still is seen to fall behind.

    PostgreSQL's ``replay_lag`` tells of what *was* replayed; it says nothing new of a standby that
    replays no more. Positions are bytes of the log, times are seconds.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=KEPT_SAMPLES)

    def note(self, now: float, written: int) -> None:
        """Remember where the primary is now."""
        if self._samples and written < self._samples[-1][1]:
            self._samples.clear()  # another timeline, of which nothing is known
        if not self._samples or written > self._samples[-1][1]:
            self._samples.append((now, written))

    def lag(self, now: float, written: int, standby: Position) -> Lag:
        """Return how far a standby is behind; the seconds since the primary passed it."""
        behind = max(0, written - standby.replayed)
        passed = next((at for at, place in self._samples if place > standby.replayed), now)
        seconds = max(standby.seconds, now - passed) if behind else 0.0
        return Lag(standby.member, behind, seconds)


class Lags:
    """Asks over one connection, which is opened anew when it is lost; what fails is unknown.

    ``connect`` gives a connection in autocommit.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[AsyncConnection]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._history = History()
        self._connection: AsyncConnection | None = None
        self._one_by_one = asyncio.Lock()

    async def __call__(self) -> tuple[Lag, ...]:
        """Return the lag of each standby that streams; nothing when that cannot be told now."""
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
        """Close the connection; the next question opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _ask(self) -> tuple[int, list[Position]]:
        if self._connection is None:
            self._connection = await self._connect()
        rows = await (await self._connection.execute(QUERY)).fetchall()
        standbys = [Position(name, replayed, age) for _, name, replayed, age in rows if name]
        return int(rows[0][0]), standbys
