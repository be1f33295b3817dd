"""The cluster's own requests to PostgreSQL on a data node, as its superuser."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from socket import SHUT_RDWR, socket
from typing import Any

from psycopg import AsyncConnection, Error, sql

from openvcha.node.engines import EngineMissing, Postgres, find_postgres
from openvcha.node.identity import load_identity, load_secrets
from openvcha.node.layout import Layout
from openvcha.node.postgres.diagnosis.blocked_logins import find_login_blocker
from openvcha.node.postgres.diagnosis.missing_files import MissingFile, find_missing_files
from openvcha.node.postgres.diagnosis.replay import HOLDERS, REPLAYED, Replay, holder
from openvcha.node.postgres.diagnosis.user_settings import survey
from openvcha.node.postgres.leader import CONNECT_SECONDS, superuser_conninfo
from openvcha.node.postgres.log import errors
from openvcha.node.postgres.member_slots import MemberSlotsFile
from openvcha.node.postgres.own_names import OWN_ROLES
from openvcha.node.postgres.readiness import accepts_connections
from openvcha.node.postgres.server import postgres_major
from openvcha.node.postgres.standby_data.pg_basebackup import ServerError, base_backup_error
from openvcha.store.node_facts import PostgresFacts

STATEMENT_SECONDS = 10.0
PROBE_SECONDS, SILENT_SECONDS = 5.0, 30.0
"""How often a server is probed during a checkpoint, and how long it may be silent meanwhile."""
WRITTEN = "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"


class PostgresUnreachable(Exception):  # noqa: N818 - an expected condition, not a defect
    """A request to a node's PostgreSQL failed; the text says why."""


class Superuser:
    """The superuser of a cluster's PostgreSQL, with the node's current credentials."""

    def __init__(self, layout: Layout, port: int) -> None:
        self._layout = layout
        self._port = port
        self._postgres: Postgres | None = None

    async def prepare(self) -> Postgres:
        """Find the node's PostgreSQL in advance, since that takes time. Raises EngineMissing."""
        if self._postgres is None:
            self._postgres = await asyncio.to_thread(self._find)
        return self._postgres

    async def connect(self, host: str, database: str = "postgres") -> AsyncConnection[Any]:
        """Connect to a node's PostgreSQL. Raises psycopg.Error, OSError, EngineMissing."""
        postgres = await self.prepare()
        secrets = load_secrets(self._layout.root)
        place = superuser_conninfo(host, self._port, self._layout, secrets, postgres)
        return await AsyncConnection.connect(place, autocommit=True, dbname=database)

    async def checkpoint(self, host: str) -> None:
        """Run a checkpoint, however long it takes, as long as the server responds.

        Raises PostgresUnreachable.
        """
        async with self._at(host, None) as connection:
            running = asyncio.create_task(connection.execute("checkpoint"))
            silence = asyncio.create_task(self._silence(host))
            try:
                await asyncio.wait([running, silence], return_when=asyncio.FIRST_COMPLETED)
                if not running.done():
                    late = f"no login for {SILENT_SECONDS:g} s during a checkpoint"
                    raise PostgresUnreachable(f"PostgreSQL at {host}: {late}")
                running.result()
            finally:
                if not running.done():
                    _disconnect(connection)
                silence.cancel()
                await asyncio.gather(running, silence, return_exceptions=True)

    async def _silence(self, host: str) -> None:
        """Return once a server has accepted no login for SILENT_SECONDS.

        A frozen server's kernel still acknowledges what is sent, so TCP does not notice.
        """
        clock = asyncio.get_running_loop().time
        responded = clock()
        while clock() - responded < SILENT_SECONDS:
            await asyncio.sleep(PROBE_SECONDS)
            with contextlib.suppress(Error, OSError, EngineMissing, TimeoutError):
                async with asyncio.timeout(STATEMENT_SECONDS), await self.connect(host):
                    responded = clock()

    async def position(self, host: str) -> int:
        """Return a primary's write position, in bytes of the log. Raises PostgresUnreachable."""
        async with self._at(host) as connection:
            row = await (await connection.execute(WRITTEN)).fetchone()
            return int(row[0]) if row else 0

    async def replay(self, host: str) -> Replay:
        """Return a standby's replay and what delays it. Raises PostgresUnreachable.

        A paused replay is resumed.
        """
        async with self._at(host) as connection:
            row = await (await connection.execute(REPLAYED)).fetchone()
            if row is None:
                raise PostgresUnreachable(f"PostgreSQL at {host} does not report its position")
            seen = Replay(*row)
            if seen.paused:
                await connection.execute("select pg_wal_replay_resume()")
            holders = await (await connection.execute(HOLDERS)).fetchall()
            return replace(seen, holders=tuple(map(holder, holders)))

    async def base_backup_error(self, since: datetime) -> ServerError | None:
        """Return the last error of a base backup of this node's PostgreSQL since a time, if any."""
        return base_backup_error(await asyncio.to_thread(errors, self._layout.logs, since), since)

    async def inspect(self, host: str) -> PostgresFacts:
        """Return what users have set in this node's own PostgreSQL. Raises PostgresUnreachable."""
        async with self._at(host) as connection:
            return await self.survey(connection)

    async def survey(self, session: AsyncConnection[Any]) -> PostgresFacts:
        """Return what users have set, asked over an open session. Raises psycopg.Error."""
        own_slots = await asyncio.to_thread(MemberSlotsFile(self._layout.member_slots).read)
        return await survey(session, own_slots)

    async def login_blocker(self, session: AsyncConnection[Any]) -> str | None:
        """Return the session that blocks logins, for display. Raises psycopg.Error."""
        return await find_login_blocker(session)

    async def accepts(self, host: str) -> bool:
        """Return whether a PostgreSQL accepts connections, even if it then refuses a role."""
        return await accepts_connections(host, self._port, CONNECT_SECONDS)

    async def missing_files(self, host: str) -> tuple[MissingFile, ...]:
        """Return the files that this node's databases need and that are not installed.

        Raises PostgresUnreachable.
        """
        async with self._at(host) as connection:
            return await find_missing_files(connection, partial(self.connect, host))

    async def test_password_change(self, host: str) -> None:
        """Test whether the passwords of our roles can be changed; roll back.

        Raises PostgresUnreachable.
        """
        async with self._at(host) as connection, connection.transaction(force_rollback=True):
            for user in OWN_ROLES:
                statement = sql.SQL("alter role {} password null")
                await connection.execute(statement.format(sql.Identifier(user)))

    @asynccontextmanager
    async def _at(
        self, host: str, seconds: float | None = STATEMENT_SECONDS
    ) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            async with asyncio.timeout(seconds), await self.connect(host) as connection:
                yield connection
        except (Error, OSError, EngineMissing) as error:
            reason = str(error) or f"no response within {STATEMENT_SECONDS:g} s"
            raise PostgresUnreachable(f"PostgreSQL at {host}: {reason}") from error

    def _find(self) -> Postgres:
        chosen = load_identity(self._layout.root).engines.postgresql
        return find_postgres(os.environ, postgres_major(self._layout.pgdata), chosen)


def _disconnect(connection: AsyncConnection[Any]) -> None:
    """End a connection at once: psycopg would wait for the server to confirm a cancel."""
    with contextlib.suppress(OSError), socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(SHUT_RDWR)
