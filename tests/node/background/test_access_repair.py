"""The cluster keeps access to its own PostgreSQL, whatever users do to its roles and database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from tests.support.nodes import SECRETS, UNTIL_SECONDS
from tests.support.waiting import until_async

from openvcha.node.background import access_repair
from openvcha.node.background.access_repair import HANGS_UNTIL_TOLD, AccessRepair
from openvcha.node.background.facts import PostgresSurvey
from openvcha.node.postgres.own_names import OWN_ROLES
from openvcha.node.postgres.own_sessions import superuser_options
from openvcha.node.postgres.scram import accepts
from openvcha.node.postgres.superuser import Superuser
from openvcha.node.process.logs import RotatingLog, logger
from openvcha.store import keys, node_facts
from openvcha.store.node_facts import RefusalCause

pytestmark = pytest.mark.engines

BOSS = {"user": "boss", "password": "boss", "options": superuser_options()}
"""A superuser of the users' own, as many have one."""


@pytest.fixture(scope="module")
def node(lab: Any) -> Any:
    made = lab.node("first", 12, {"first": 12})
    made.start()
    lab.until(made.writable)
    lab.until(lambda: made.value("select to_regrole('rewind') is not null"))
    with made.connect() as connection:
        connection.execute("create role boss superuser login password 'boss'")
    lab.until(lambda: is_surveyed(made))
    return made


def by_boss(node: Any, *statements: str) -> None:
    """Run statements as a user who is a superuser too."""
    for statement in statements:
        # PostgreSQL allows neither from within the database itself.
        database = "app" if "database postgres" in statement else "postgres"
        with node.connect(**BOSS, dbname=database) as connection:
            connection.execute(statement.encode())


def is_open(node: Any) -> bool:
    """Return whether each of the cluster's roles has its password and its privileges."""
    with suppress(psycopg.Error), node.connect(dbname="postgres") as connection:
        query = b"select rolname, rolpassword, rolcanlogin, rolreplication from pg_authid"
        found: dict[str, Any] = {name: more for name, *more in connection.execute(query)}
        known = dict(
            zip(OWN_ROLES, (SECRETS.superuser, SECRETS.replication, SECRETS.rewind), strict=True)
        )
        reads = connection.execute(
            b"select has_function_privilege('rewind', 'pg_read_binary_file(text)', 'execute')"
        ).fetchone()
        return (
            found.keys() >= {*OWN_ROLES}
            and connection.info.parameter_status("is_superuser") == "on"
            and all(accepts(found[role][0], known[role]) and found[role][1] for role in OWN_ROLES)
            and bool(found["replicator"][2])
            and reads == (True,)
        )
    return False


def reported(node: Any) -> node_facts.NodeFacts | None:
    """Return what the node has reported of its PostgreSQL."""
    found = node.etcd(lambda store: store.get(keys.node_facts("first")))
    return node_facts.decode(found.value) if found else None


def is_surveyed(node: Any) -> bool:
    """Return whether the node has reported that it has access."""
    found = reported(node)
    return found is not None and found.refusal is None and found.postgres is not None


def refusing(node: Any) -> Any:
    """Return what the node has reported, if it reports a refusal."""
    found = reported(node)
    return found if found is not None and found.refusal else None


@asynccontextmanager
async def repairing(node: Any) -> AsyncIterator[tuple[AccessRepair, Path]]:
    """Yield a repair that has a session open, and its log.

    The node has one too, which surveys every ten seconds; this one does when the test asks.
    """
    log = node.directory / "logs" / "test.jsonl"
    passwords: Any = SimpleNamespace(settled=lambda: nullcontext(SECRETS))
    superuser = Superuser(node.layout, node.identity.ports.postgres)
    events = logger(RotatingLog(log), "test")
    async with AccessRepair(superuser, node.identity.ha_address, passwords, events) as access:
        assert (await access.survey()).told
        yield access, log


async def until_repaired(node: Any, access: AccessRepair) -> None:
    """Survey until each role has its access again: the node's own repair may be at it."""

    async def repaired() -> bool:
        return (await access.survey()).refusal is None and is_open(node)

    await until_async(repaired, UNTIL_SECONDS)


def test_what_locks_the_cluster_out_is_taken_back_by_the_node(lab: Any, node: Any) -> None:
    """By a session kept open; the log says what, and no secret."""
    assert is_open(node)
    by_boss(
        node,
        "alter role postgres nologin",
        "alter role postgres password 'mine'",
        "drop owned by rewind",
        "drop role rewind",
        "alter database postgres allow_connections false",
    )
    assert not is_open(node)
    lab.until(lambda: is_open(node))
    lab.until(lambda: is_surveyed(node))
    lab.until(lambda: "restored a privilege of a cluster role" in node.log("supervisor"))
    assert "SCRAM-SHA-256$" not in node.log("supervisor")


@pytest.mark.parametrize(
    "statements",
    [
        (
            "alter role postgres valid until '2020-01-01'",
            "alter role replicator rename to repl",
            "alter role rewind password 'mine'",
        ),
        (
            "set password_encryption = md5; alter role replicator password 'repli:\\cation'",
            "drop database postgres with (force)",
        ),
    ],
)
async def test_what_locks_the_cluster_out_is_taken_back(
    node: Any, statements: tuple[str, ...]
) -> None:
    """By a session kept open, or in another database."""
    async with repairing(node) as (access, log):
        by_boss(node, *statements)
        assert not is_open(node)
        await until_repaired(node, access)
    assert "SCRAM-SHA-256$" not in log.read_text()


def test_what_cannot_be_taken_back_is_told(lab: Any, node: Any) -> None:
    """A role that lost superuser cannot grant it to itself; another superuser can."""
    by_boss(node, "alter role postgres nosuperuser")
    try:
        lab.until(lambda: not is_surveyed(node))
        seen = reported(node)
        assert seen
        assert "permission denied" in (seen.refusal or "")
    finally:
        by_boss(node, "alter role postgres superuser")
    lab.until(lambda: is_open(node) and is_surveyed(node))


async def test_tls_that_was_switched_off_is_named(node: Any) -> None:
    """No session can be opened then, but the one that is open reads the setting."""
    auto = node.layout.pgdata / "postgresql.auto.conf"
    async with repairing(node) as (access, _):
        with node.connect(**BOSS, dbname="postgres") as open_session:
            open_session.execute("alter system set ssl = off")
            open_session.execute("select pg_reload_conf()")
            try:
                seen = await until_async(lambda: refused(access), UNTIL_SECONDS)
            finally:
                lines = auto.read_text().splitlines(keepends=True)
                auto.write_text("".join(line for line in lines if not line.startswith("ssl")))
                open_session.execute("select pg_reload_conf()")
        await until_repaired(node, access)
    assert seen.cause is RefusalCause.TLS
    assert seen.told
    assert [(each.name, each.value, each.vital) for each in seen.told.overrides] == [
        ("ssl", "off", True)
    ]


async def refused(access: AccessRepair) -> PostgresSurvey | None:
    """Survey once; return the survey if PostgreSQL refuses us."""
    seen = await access.survey()
    return seen if seen.refusal else None


async def test_a_renamed_superuser_is_replaced(node: Any) -> None:
    """The cluster creates a new one; the renamed role stays the user's."""
    async with repairing(node) as (access, _):
        by_boss(node, "alter role postgres rename to old")
        await until_repaired(node, access)
    by_boss(node, "select 'old'::regrole")


async def test_a_session_that_blocks_all_logins_is_named(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New clients hang too, and nothing else would say why."""
    async with repairing(node) as (access, _):
        with node.connect(**BOSS, dbname="postgres") as blocker:
            blocker.execute("begin")
            blocker.execute("lock table pg_authid in access exclusive mode")
            with monkeypatch.context() as patch:
                patch.setattr(access_repair, "SESSION_SECONDS", 2.0)
                for _ in range(HANGS_UNTIL_TOLD):
                    seen = await access.survey()
            assert seen.cause is RefusalCause.HANGING
            assert f"process {blocker.info.backend_pid} " in (seen.refusal or "")
        await until_repaired(node, access)


@pytest.mark.soak
@pytest.mark.parametrize("catalog", ["pg_authid", "pg_database"])
def test_the_node_tells_who_blocks_all_logins(lab: Any, node: Any, catalog: str) -> None:
    """After three surveys, which takes a minute."""
    lab.until(lambda: is_surveyed(node))
    with node.connect(**BOSS, dbname="postgres") as blocker:
        blocker.execute("begin")
        blocker.execute(f"lock table {catalog} in access exclusive mode".encode())
        seen = lab.until(lambda: refusing(node))
        assert seen.refusal_cause is RefusalCause.HANGING
        assert f"process {blocker.info.backend_pid} " in seen.refusal
    lab.until(lambda: is_surveyed(node))
