"""A node's access to its own PostgreSQL, and the repair of user changes that would block it.

An open session survives when its role may no longer log in. So one session is kept open, and
restores what a new one needs: the roles, their passwords and the database. If PostgreSQL restarts
before that, every session is locked out.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, Self

from psycopg import AsyncConnection, Error
from psycopg.errors import ConnectionTimeout

from openvcha.node.background.context import NodeContext
from openvcha.node.background.facts import PostgresSurvey
from openvcha.node.engines import EngineMissing
from openvcha.node.identity import Secrets, load_secrets
from openvcha.node.postgres.log import sanitize
from openvcha.node.postgres.own_roles import repair_roles
from openvcha.node.postgres.refusals import refusal_cause
from openvcha.node.process.logs import Logger
from openvcha.node.security.rotation import load
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.node_facts import PostgresFacts, RefusalCause

SESSION_SECONDS = 10.0
WARM_SECONDS = 60.0
"""How long one session serves the surveys. Each of them opens a new one as well, to see whether
that is possible; but every query costs several times as much in a new session."""
RETRY_PAUSES = (0.0, 0.0, 1.0, 2.0)
"""Seconds before each attempt: the active may be repairing the cause of a refusal."""
HOME_DATABASE, FALLBACK_DATABASE = "postgres", "template1"
MAX_REFUSAL_LENGTH = 300
HANGS_UNTIL_TOLD = 3
"""Surveys in a row without a session, about a minute: one may be of a server that is stopping."""

Connection = AsyncConnection[Any]


class _LoginTimeoutError(Exception):
    """PostgreSQL neither accepts nor refuses a login in time."""


class DatabaseServer(Protocol):
    """The part of node.postgres.superuser.Superuser that is used here."""

    async def connect(self, host: str, database: str = HOME_DATABASE) -> Connection:
        """Connect as the superuser. Raises psycopg.Error, OSError, EngineMissing."""
        ...

    async def survey(self, session: Connection) -> PostgresFacts:
        """Return what users have set. Raises psycopg.Error."""
        ...

    async def login_blocker(self, session: Connection) -> str | None:
        """Return the session that blocks logins, for display. Raises psycopg.Error."""
        ...

    async def accepts(self, host: str) -> bool:
        """Return whether it accepts connections."""
        ...


class SettledPasswords(Protocol):
    """The part of NodePasswords that is used here."""

    def settled(self) -> AbstractAsyncContextManager[Secrets | None]:
        """Hold the current passwords; yield None while they change, or before they are set."""
        ...


class NodePasswords:
    """The cluster's passwords, while the node's files and its PostgreSQL should agree on them."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._lock = context.control.passwords
        self._roles_exist = False

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[Secrets | None]:
        """Lock the passwords during a block; yield None while they change, or before they are set.

        Raises OSError, msgspec.DecodeError.
        """
        if self._lock.locked():
            yield None
            return
        async with self._lock:
            yield await self._known()

    async def _known(self) -> Secrets | None:
        layout = self._context.layout
        if not await self._set() or await asyncio.to_thread(load, layout) is not None:
            return None
        return await asyncio.to_thread(load_secrets, layout.root)

    async def _set(self) -> bool:
        """Return whether the roles exist: Patroni records the database after creating them."""
        if not self._roles_exist:
            try:
                found = await self._context.store.get(keys.PATRONI_INITIALIZE)
            except StoreError:
                return False
            self._roles_exist = found is not None and bool(found.value)
        return self._roles_exist


class AccessRepair:
    """Access to one node's PostgreSQL, with a session that is kept open between surveys."""

    def __init__(
        self,
        server: DatabaseServer,
        host: str,
        passwords: SettledPasswords,
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
        self._kept_since = 0.0
        self._hangs = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._keep(None)

    async def survey(self) -> PostgresSurvey:
        """Read what users have set, through a new session; restore what new sessions need."""
        try:
            seen = await self._survey_or_refusal()
        except _LoginTimeoutError:
            self._hangs += 1
            return await self._hanging()
        self._hangs = 0
        return seen

    async def _survey_or_refusal(self) -> PostgresSurvey:
        """Return a survey, or why there is none. Raises _LoginTimeoutError."""
        refusal = ""
        for pause in RETRY_PAUSES:
            if refusal:
                await self._sleep(pause)
                await self._restore_access()
            try:
                return await self._survey()
            except TimeoutError:
                self._events.debug("cannot survey PostgreSQL", reason="no response in time")
                return PostgresSurvey()
            except (Error, OSError, EngineMissing) as error:
                refusal = sanitize(str(error).strip())[:MAX_REFUSAL_LENGTH]
            if not await self._is_refused():
                self._events.debug("cannot survey PostgreSQL", reason=refusal)
                return PostgresSurvey()
        self._events.warning("PostgreSQL no longer accepts the cluster's sessions", reason=refusal)
        return PostgresSurvey(await self._survey_kept(), refusal, refusal_cause(refusal))

    async def _hanging(self) -> PostgresSurvey:
        """Return a survey without a new session: PostgreSQL neither accepts nor refuses one.

        The kept session names who blocks it, if it can.
        """
        async with self._passwords.settled() as known:
            told = known is not None and self._hangs >= HANGS_UNTIL_TOLD
        if not told:
            self._events.debug("cannot survey PostgreSQL", reason="no response in time")
            return PostgresSurvey()
        refusal = "logins get no answer"
        if blocker := await self._login_blocker():
            refusal += f"; {blocker} locks a system catalog"
        self._events.warning("PostgreSQL no longer answers logins", reason=refusal)
        return PostgresSurvey(await self._survey_kept(), refusal, RefusalCause.HANGING)

    async def _login_blocker(self) -> str | None:
        if self._kept is None:
            return None
        try:
            async with asyncio.timeout(SESSION_SECONDS):
                return await self._server.login_blocker(self._kept)
        except (TimeoutError, Error, OSError) as error:
            self._events.debug("cannot find what blocks logins", reason=str(error))
            return None

    async def _survey(self) -> PostgresSurvey:
        """Open a new session, and return a survey through it, or through one that is warm.

        Raises _LoginTimeoutError; TimeoutError if the session is slow; psycopg.Error, OSError,
        EngineMissing.
        """
        try:
            async with asyncio.timeout(SESSION_SECONDS):
                opened = await self._server.connect(self._host)
        except (TimeoutError, ConnectionTimeout) as error:
            raise _LoginTimeoutError from error
        warm = self._warm()
        try:
            async with asyncio.timeout(SESSION_SECONDS):
                if warm and not await _answers(warm):
                    warm = None
                await self._repair(warm or opened)
                seen = PostgresSurvey(await self._server.survey(warm or opened))
        except BaseException:
            # A session that fails is not kept, whichever it is.
            await (self._keep(opened) if warm else opened.close())
            raise
        await (opened.close() if warm else self._keep(opened))
        return seen

    def _warm(self) -> Connection | None:
        """Return the kept session unless it is too old."""
        now = asyncio.get_running_loop().time()
        return self._kept if now - self._kept_since < WARM_SECONDS else None

    async def _survey_kept(self) -> PostgresFacts | None:
        """Return what users have set, through the kept session; None without one that answers."""
        if self._kept is None:
            return None
        try:
            async with asyncio.timeout(SESSION_SECONDS):
                return await self._server.survey(self._kept)
        except (TimeoutError, Error, OSError) as error:
            self._events.debug("cannot survey PostgreSQL", reason=str(error))
            return None

    async def _is_refused(self) -> bool:
        """Return whether PostgreSQL is set up and accepts connections."""
        async with self._passwords.settled() as known:
            return known is not None and await self._server.accepts(self._host)

    async def _restore_access(self) -> None:
        """Restore what a new session needs, through the kept session or another database."""
        try:
            async with asyncio.timeout(SESSION_SECONDS):
                if self._kept is not None and await _answers(self._kept):
                    await self._repair(self._kept)
                else:
                    async with await self._server.connect(self._host, FALLBACK_DATABASE) as session:
                        await self._repair(session)
        except (TimeoutError, Error, OSError, EngineMissing) as error:
            self._events.debug("no session to repair PostgreSQL's roles with", reason=str(error))

    async def _repair(self, session: Connection) -> None:
        async with self._passwords.settled() as known:
            tended = await repair_roles(session, known)
        for statement in tended.done:
            self._events.warning("restored a privilege of a cluster role", statement=statement)
        for reason in tended.failed:
            self._events.warning("a cluster role lacks a privilege", reason=sanitize(reason))

    async def _keep(self, session: Connection | None) -> None:
        before, self._kept = self._kept, session
        self._kept_since = asyncio.get_running_loop().time()
        if before is not None:
            await before.close()


async def _answers(session: Connection) -> bool:
    try:
        await session.execute("select")
    except Error:
        return False
    return True
