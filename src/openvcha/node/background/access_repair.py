"""A node gets into its own PostgreSQL, and mends what users do that would keep it out.

A session that is open stays open when its role may not log in any more: one is kept, by which the
roles, their passwords and the database get back what a new one needs. Whoever restarts PostgreSQL
before that has locked out everybody.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from psycopg import AsyncConnection, Error

from openvcha.node.background.context import DutyView
from openvcha.node.background.facts import Look
from openvcha.node.engines import EngineMissing
from openvcha.node.identity import Secrets, load_secrets
from openvcha.node.postgres.diagnosis.user_settings import survey
from openvcha.node.postgres.log import plain
from openvcha.node.postgres.own_roles import tend
from openvcha.node.process.logs import Logger
from openvcha.node.security.rotation import load
from openvcha.store import keys
from openvcha.store.errors import StoreError

SESSION_SECONDS = 10.0
PAUSES = (0.0, 0.0, 1.0, 2.0)
"""Seconds before each try. One refusal is no verdict: the active may just be mending its reason."""
HOME, OTHER = "postgres", "template1"
LONGEST_REFUSAL = 300

Connection = AsyncConnection[Any]


class Server(Protocol):
    """What is needed of node.postgres.superuser.Superuser."""

    async def connect(self, host: str, database: str = HOME) -> Connection:
        """Raise psycopg.Error, OSError, EngineMissing."""
        ...

    async def accepts(self, host: str) -> bool:
        """Return whether it takes connections."""
        ...


class Passwords(Protocol):
    """What is needed of NodePasswords."""

    def settled(self) -> AbstractAsyncContextManager[Secrets | None]:
        """Hold the passwords as they are; None while they are changed, or not set yet."""
        ...


class NodePasswords:
    """The cluster's passwords, held while the node's directory and its PostgreSQL should agree."""

    def __init__(self, view: DutyView) -> None:
        self._view = view
        self._lock = view.control.passwords
        self._made = False

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[Secrets | None]:
        """Hold the passwords as they are; None while they are changed, or not set yet.

        Raises OSError, msgspec.DecodeError.
        """
        if self._lock.locked():
            yield None
            return
        async with self._lock:
            yield await self._known()

    async def _known(self) -> Secrets | None:
        layout = self._view.layout
        if not await self._set() or await asyncio.to_thread(load, layout) is not None:
            return None
        return await asyncio.to_thread(load_secrets, layout.root)

    async def _set(self) -> bool:
        """Return whether the roles have been made: Patroni notes the database after them."""
        if not self._made:
            try:
                found = await self._view.store.get(keys.PATRONI_INITIALIZE)
            except StoreError:
                return False
            self._made = found is not None and bool(found.value)
        return self._made


class Access:
    """The way in to one node's PostgreSQL, with a session that is kept between two looks."""

    def __init__(
        self,
        server: Server,
        host: str,
        passwords: Passwords,
        events: Logger,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._server = server
        self._host = host
        self._passwords = passwords
        self._events = events
        self._sleep = sleep
        self._kept: Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._keep(None)

    async def look(self) -> Look:
        """Look what users have set, by a new session; restore what lets one in."""
        refusal = ""
        for pause in PAUSES:
            if refusal:
                await self._sleep(pause)
                await self._let_in()
            try:
                async with asyncio.timeout(SESSION_SECONDS):
                    return await self._by_a_new_session()
            except TimeoutError:
                self._events.debug("cannot survey PostgreSQL", reason="no response in time")
                return Look()
            except (Error, OSError, EngineMissing) as error:
                refusal = plain(str(error).strip())[:LONGEST_REFUSAL]
            if not await self._refuses():
                self._events.debug("cannot survey PostgreSQL", reason=refusal)
                return Look()
        self._events.warning("PostgreSQL no longer accepts the cluster's sessions", reason=refusal)
        return Look(refusal=refusal)

    async def _by_a_new_session(self) -> Look:
        opened = await self._server.connect(self._host)
        try:
            await self._tend(opened)
            seen = Look(await survey(opened))
        except BaseException:
            await opened.close()
            raise
        await self._keep(opened)
        return seen

    async def _refuses(self) -> bool:
        """Return whether PostgreSQL serves others: not before it was made, nor while it stops."""
        async with self._passwords.settled() as known:
            return known is not None and await self._server.accepts(self._host)

    async def _let_in(self) -> None:
        """Restore what lets a new session in, by the one that is kept, else in another database."""
        try:
            async with asyncio.timeout(SESSION_SECONDS):
                if self._kept is not None and await _answers(self._kept):
                    await self._tend(self._kept)
                else:
                    async with await self._server.connect(self._host, OTHER) as session:
                        await self._tend(session)
        except (TimeoutError, Error, OSError, EngineMissing) as error:
            self._events.debug("no session to repair PostgreSQL's roles with", reason=str(error))

    async def _tend(self, session: Connection) -> None:
        async with self._passwords.settled() as known:
            tended = await tend(session, known)
        for statement in tended.done:
            self._events.warning("restored a privilege of a cluster role", statement=statement)
        for reason in tended.failed:
            self._events.warning("a cluster role lacks a privilege", reason=plain(reason))

    async def _keep(self, session: Connection | None) -> None:
        before, self._kept = self._kept, session
        if before is not None:
            await before.close()


async def _answers(session: Connection) -> bool:
    try:
        await session.execute("select")
    except Error:
        return False
    return True
