"""What the cluster itself asks of PostgreSQL on a data node, as its superuser."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, Error

from openvcha.node.engines import EngineMissing, Postgres, find_postgres
from openvcha.node.identity import load_secrets
from openvcha.node.layout import Layout
from openvcha.node.leader import superuser_place
from openvcha.node.patroni import postgres_major


class PostgresUnreachable(Exception):  # noqa: N818 - a state of the world, not a fault of ours
    """A node's PostgreSQL did not do what it was asked; the text says why."""


class Superuser:
    """The superuser of a cluster's PostgreSQL, as a node's directory proves it now."""

    def __init__(self, layout: Layout, port: int) -> None:
        self._layout = layout
        self._port = port
        self._postgres: Postgres | None = None

    async def prepare(self) -> Postgres:
        """Find out which PostgreSQL the node runs, before somebody waits. Raises EngineMissing."""
        if self._postgres is None:
            self._postgres = await asyncio.to_thread(self._find)
        return self._postgres

    async def connect(self, host: str) -> AsyncConnection[Any]:
        """Connect to a node's PostgreSQL. Raises psycopg.Error, OSError, EngineMissing."""
        postgres = await self.prepare()
        secrets = load_secrets(self._layout.root)
        place = superuser_place(host, self._port, self._layout, secrets, postgres)
        return await AsyncConnection.connect(place, autocommit=True)

    async def checkpoint(self, host: str) -> None:
        """Write out what a node holds in memory. Raises PostgresUnreachable."""
        async with self._at(host) as connection:
            await connection.execute("checkpoint")

    @asynccontextmanager
    async def _at(self, host: str) -> AsyncIterator[AsyncConnection[Any]]:
        try:
            async with await self.connect(host) as connection:
                yield connection
        except (Error, OSError, EngineMissing) as error:
            raise PostgresUnreachable(f"PostgreSQL at {host}: {error}") from error

    def _find(self) -> Postgres:
        return find_postgres(os.environ, postgres_major(self._layout.pgdata))
