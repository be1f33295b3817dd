"""A refusal is reported only if it is one: not while a server stops or passwords change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from psycopg import OperationalError
from psycopg.errors import ConnectionTimeout
from tests.support.node_files import SECRETS

from openvcha.node.background.access_repair import (
    HANGS_UNTIL_TOLD,
    RETRY_PAUSES,
    AccessRepair,
    NodePasswords,
)
from openvcha.node.background.facts import PostgresSurvey
from openvcha.node.identity import encode_secrets
from openvcha.node.layout import Layout
from openvcha.node.security.rotation import Rotation, finish, save
from openvcha.store import keys
from openvcha.store.errors import StoreUnavailable
from openvcha.store.memory import MemoryStore
from openvcha.store.node_facts import Override, PostgresFacts, RefusalCause
from openvcha.system.files.durable import write_durably

pytestmark = pytest.mark.looptime

NOLOGIN = 'FATAL: role "postgres" is not permitted to log in'
NO_TLS = "connection failed: server does not support SSL, but SSL was required"
OVERRIDES = PostgresFacts(
    overrides=(Override(name="ssl", value="off", file="postgresql.auto.conf", vital=True),)
)


BLOCKER = "process 4711 (application psql, since 2026-11-26 18:54:46 UTC)"


class Session:
    """A SIMULATED session with a standby, where no role is repaired."""

    alive = True
    hangs = False
    closed = False

    async def execute(self, *_: Any) -> Any:
        if self.hangs:
            await asyncio.Event().wait()
        if not self.alive:
            raise OperationalError("the connection is closed")

        async def fetchall() -> list[Any]:
            return [(True, 150000, True, [])]

        return SimpleNamespace(fetchall=fetchall)

    async def close(self) -> None:
        self.closed = True


class Server:
    """A SIMULATED server that refuses every login, except while ``session`` is set."""

    def __init__(
        self,
        *,
        accepting: bool = True,
        hangs: bool | Exception = False,
        error: str = NOLOGIN,
    ) -> None:
        self.accepting = accepting
        self.hangs = hangs
        self.error = error
        self.slow = False
        self.session: Session | None = None
        self.surveyed: list[Session] = []
        self.asked: list[str] = []

    async def connect(self, host: str, database: str = "postgres") -> Any:
        self.asked.append(f"{host}/{database}")
        if isinstance(self.hangs, Exception):
            raise self.hangs
        if self.hangs:
            await asyncio.Event().wait()
        if self.session:
            return self.session
        raise OperationalError(self.error)

    async def survey(self, session: Any) -> PostgresFacts:
        if self.slow:
            await asyncio.Event().wait()
        await session.execute("select")
        self.surveyed.append(session)
        return OVERRIDES

    async def login_blocker(self, session: Any) -> str | None:
        await session.execute("select")
        return BLOCKER

    async def accepts(self, _: str) -> bool:
        return self.accepting


class Settled:
    """Passwords that are not being changed."""

    def __init__(self, known: Any = SECRETS) -> None:
        self._known = known

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[Any]:
        yield self._known


class Log:
    def __init__(self) -> None:
        self.warned: list[str] = []

    def debug(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    def warning(self, event: str, **_: Any) -> None:
        self.warned.append(event)


async def survey(server: Server, passwords: Any) -> tuple[PostgresSurvey, list[str]]:
    log: Any = Log()
    async with AccessRepair(server, "h", passwords, log) as access:
        return await access.survey(), log.warned


async def test_it_is_told_after_several_tries_only() -> None:
    """Before each retry the node tries to repair it, by a session in the other database."""
    server = Server()
    seen, warned = await survey(server, Settled())
    assert seen == PostgresSurvey(refusal=NOLOGIN)
    assert warned == ["PostgreSQL no longer accepts the cluster's sessions"]
    assert server.asked == ["h/postgres", *["h/template1", "h/postgres"] * (len(RETRY_PAUSES) - 1)]


@pytest.mark.parametrize("alive", [True, False])
async def test_the_open_session_still_reports_what_users_have_set(alive: bool) -> None:
    """So the setting that locks the cluster out is named; without a session nothing is known."""
    server, log = Server(error=NO_TLS), cast("Any", Log())
    server.session = session = Session()
    async with AccessRepair(server, "h", Settled(), log) as access:
        assert await access.survey() == PostgresSurvey(OVERRIDES)
        server.session, session.alive = None, alive
        told = OVERRIDES if alive else None
        assert await access.survey() == PostgresSurvey(told, NO_TLS, RefusalCause.TLS)


async def test_each_survey_logs_in_but_asks_a_session_that_is_warm() -> None:
    """For a minute: an old session does not show what later ones would get."""
    server, sessions = Server(), [Session() for _ in range(8)]
    async with AccessRepair(server, "h", Settled(), cast("Any", Log())) as access:
        for server.session in sessions:
            assert await access.survey() == PostgresSurvey(OVERRIDES)
            await asyncio.sleep(10)
        first, last = sessions[0], sessions[6]
        assert server.surveyed == [*[first] * 6, last, last]
        assert [one.closed for one in sessions] == [one is not last for one in sessions]
    assert last.closed


@pytest.mark.parametrize("fault", ["alive", "hangs"])
async def test_a_warm_session_that_fails_is_replaced(fault: str) -> None:
    """PostgreSQL has restarted, or the session's backend is stopped."""
    server, warm, new = Server(), Session(), Session()
    async with AccessRepair(server, "h", Settled(), cast("Any", Log())) as access:
        server.session = warm
        await access.survey()
        server.session = new
        setattr(warm, fault, fault == "hangs")
        told = await access.survey()
        assert told == PostgresSurvey(OVERRIDES if fault == "alive" else None)
        server.session = Session()
        assert (await access.survey(), server.surveyed[-1]) == (PostgresSurvey(OVERRIDES), new)
        assert (warm.closed, new.closed) == (True, False)


@pytest.mark.parametrize(
    ("server", "passwords"),
    [
        (Server(accepting=False), Settled()),
        (Server(hangs=True), Settled()),
        (Server(), Settled(None)),
    ],
)
async def test_what_is_no_refusal_is_not_told(server: Server, passwords: Any) -> None:
    """A server that starts, stops or hangs, and one whose passwords are being changed."""
    assert await survey(server, passwords) == (PostgresSurvey(), [])
    assert server.asked == ["h/postgres"]


@pytest.mark.parametrize("hangs", [True, ConnectionTimeout("connection timeout expired")])
@pytest.mark.parametrize("alive", [True, False])
async def test_logins_that_hang_are_told_with_who_blocks_them(
    hangs: bool | Exception, alive: bool
) -> None:
    """After several surveys; the open session names the blocker, if it answers."""
    server, log = Server(), cast("Any", Log())
    server.session = session = Session()
    async with AccessRepair(server, "h", Settled(), log) as access:
        assert await access.survey() == PostgresSurvey(OVERRIDES)
        server.hangs, session.alive = hangs, alive
        for _ in range(HANGS_UNTIL_TOLD - 1):
            assert await access.survey() == PostgresSurvey()
        assert log.warned == []
        seen = await access.survey()
        assert seen.cause is RefusalCause.HANGING
        assert seen.refusal
        assert (BLOCKER in seen.refusal, seen.told) == (alive, OVERRIDES if alive else None)
        assert log.warned == ["PostgreSQL no longer answers logins"]


async def test_a_login_in_between_ends_a_row_of_hangs() -> None:
    """A busy machine delays one; and passwords that change cause none of it."""
    server, log = Server(), cast("Any", Log())
    server.session = Session()
    async with AccessRepair(server, "h", Settled(), log) as access:
        for _ in range(2):
            for _ in range(HANGS_UNTIL_TOLD - 1):
                server.hangs = True
                assert await access.survey() == PostgresSurvey()
            server.hangs = False
            assert await access.survey() == PostgresSurvey(OVERRIDES)
    async with AccessRepair(Server(hangs=True), "h", Settled(None), log) as access:
        for _ in range(HANGS_UNTIL_TOLD):
            assert await access.survey() == PostgresSurvey()
    assert log.warned == []


async def test_a_slow_survey_after_a_login_is_no_hang() -> None:
    """Logins work: the server is busy, or has very many settings to read."""
    server, log = Server(), cast("Any", Log())
    server.session = Session()
    async with AccessRepair(server, "h", Settled(), log) as access:
        for slow in [False, *[True] * (HANGS_UNTIL_TOLD + 1)]:
            server.slow = slow
            seen = await access.survey()
        assert seen == PostgresSurvey()
    assert log.warned == []


async def test_passwords_count_while_nobody_changes_them(tmp_path: Path) -> None:
    """Not before the roles exist, nor while a rotation is under way or holds the lock."""
    layout, store, lock = Layout(tmp_path), MemoryStore(), asyncio.Lock()
    write_durably(tmp_path / "secrets.json", encode_secrets(SECRETS))
    control = SimpleNamespace(passwords=lock)
    view: Any = SimpleNamespace(layout=layout, store=store, control=control)
    passwords = NodePasswords(view)

    async def known() -> Any:
        async with passwords.settled() as found:
            return found

    assert await known() is None
    await store.put(keys.PATRONI_INITIALIZE, b"")
    assert await known() is None
    await store.put(keys.PATRONI_INITIALIZE, b"7712779366019281577")
    assert await known() == SECRETS
    save(layout, Rotation(files={}))
    assert await known() is None
    finish(layout)
    async with lock:
        assert await known() is None
    async with passwords.settled():
        assert lock.locked()


async def test_without_the_store_nothing_is_known(tmp_path: Path) -> None:
    """The roles may just be being created."""

    async def away(_: str) -> Any:
        raise StoreUnavailable("away")

    view: Any = SimpleNamespace(
        layout=Layout(tmp_path),
        store=SimpleNamespace(get=away),
        control=SimpleNamespace(passwords=asyncio.Lock()),
    )
    async with NodePasswords(view).settled() as found:
        assert found is None
