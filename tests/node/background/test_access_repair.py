"""The cluster keeps access to its own PostgreSQL, whatever users do to its roles and database."""

from contextlib import suppress
from typing import Any

import psycopg
import pytest
from tests.support.nodes import SECRETS

from openvcha.node.postgres.own_names import OWN_ROLES
from openvcha.node.postgres.own_sessions import superuser_options
from openvcha.node.postgres.scram import accepts
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


def told(node: Any) -> node_facts.NodeFacts | None:
    """Return what the node has reported of its PostgreSQL."""
    found = node.etcd(lambda store: store.get(keys.node_facts("first")))
    return node_facts.decode(found.value) if found else None


def is_surveyed(node: Any) -> bool:
    """Return whether the node has reported that it has access."""
    found = told(node)
    return found is not None and found.refusal is None and found.postgres is not None


def refusing(node: Any) -> Any:
    """Return what the node has reported, if it reports a refusal."""
    found = told(node)
    return found if found is not None and found.refusal else None


@pytest.mark.parametrize(
    "statements",
    [
        (
            "alter role postgres nologin",
            "alter role postgres password 'mine'",
            "drop owned by rewind",
            "drop role rewind",
            "alter database postgres allow_connections false",
        ),
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
def test_what_locks_the_cluster_out_is_taken_back(
    lab: Any, node: Any, statements: tuple[str, ...]
) -> None:
    """By a session kept open, or in another database; the log says what, and no secret."""
    assert is_open(node)
    by_boss(node, *statements)
    assert not is_open(node)
    lab.until(lambda: is_open(node))
    lab.until(lambda: is_surveyed(node))
    lab.until(lambda: "restored a privilege of a cluster role" in node.log("supervisor"))
    assert "SCRAM-SHA-256$" not in node.log("supervisor")


def test_what_cannot_be_taken_back_is_told(lab: Any, node: Any) -> None:
    """A role that lost superuser cannot grant it to itself; another superuser can."""
    by_boss(node, "alter role postgres nosuperuser")
    try:
        lab.until(lambda: not is_surveyed(node))
        seen = told(node)
        assert seen
        assert "permission denied" in (seen.refusal or "")
    finally:
        by_boss(node, "alter role postgres superuser")
    lab.until(lambda: is_open(node) and is_surveyed(node))


def test_tls_that_was_switched_off_is_named(lab: Any, node: Any) -> None:
    """No session can be opened then, but the one that is open reads the setting."""
    auto = node.layout.pgdata / "postgresql.auto.conf"
    with node.connect(**BOSS, dbname="postgres") as open_session:
        open_session.execute("alter system set ssl = off")
        open_session.execute("select pg_reload_conf()")
        try:
            lab.until(lambda: not is_surveyed(node))
            lab.until(lambda: (seen := told(node)) and seen.refusal_cause is RefusalCause.TLS)
            seen = told(node)
            assert seen
            assert seen.postgres
            assert [(each.name, each.value, each.vital) for each in seen.postgres.overrides] == [
                ("ssl", "off", True)
            ]
        finally:
            lines = auto.read_text().splitlines(keepends=True)
            auto.write_text("".join(line for line in lines if not line.startswith("ssl")))
            open_session.execute("select pg_reload_conf()")
    lab.until(lambda: is_open(node) and is_surveyed(node))


def test_a_renamed_superuser_is_replaced(lab: Any, node: Any) -> None:
    """The cluster creates a new one; the renamed role stays the user's."""
    by_boss(node, "alter role postgres rename to old")
    lab.until(lambda: is_open(node))
    by_boss(node, "select 'old'::regrole")


@pytest.mark.parametrize(
    "catalog", ["pg_authid", pytest.param("pg_database", marks=pytest.mark.soak)]
)
def test_a_session_that_blocks_all_logins_is_named(lab: Any, node: Any, catalog: str) -> None:
    """New clients hang too, and nothing else would say why."""
    lab.until(lambda: is_surveyed(node))
    with node.connect(**BOSS, dbname="postgres") as blocker:
        blocker.execute("begin")
        blocker.execute(f"lock table {catalog} in access exclusive mode".encode())
        seen = lab.until(lambda: refusing(node))
        assert seen.refusal_cause is node_facts.RefusalCause.HANGING
        assert f"process {blocker.info.backend_pid} " in seen.refusal
    lab.until(lambda: is_surveyed(node))
