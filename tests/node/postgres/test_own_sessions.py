"""Our own sessions work whatever defaults users have set."""

import json
from typing import Any

import psycopg
import pytest
from tests.support.engine_config import DATA, LAYOUT, TLS
from tests.support.nodes import SECRETS, complete

from openvcha.node.patroni.config import patroni_config
from openvcha.node.postgres.own_sessions import (
    patroni_options,
    superuser_options,
    superuser_settings,
)
from openvcha.node.postgres.superuser import Superuser
from openvcha.store import keys

HOSTILE = {
    "statement_timeout": "'1ms'",
    "lock_timeout": "'1ms'",
    "idle_session_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'1ms'",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "session_replication_role": "replica",
    "exit_on_error": "on",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "bytea_output": "escape",
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "sql_standard",
    "synchronous_commit": "remote_apply",
    "password_encryption": "md5",
    "log_statement": "'all'",
    "log_duration": "on",
    "log_min_duration_statement": "0",
    "session_preload_libraries": "nowhere",
    "local_preload_libraries": "'$libdir/plugins/nowhere'",
    "row_security": "on",
    "client_min_messages": "error",
    "client_encoding": "SQL_ASCII",
    "TimeZone": "'Asia/Kabul'",
    "extra_float_digits": "-15",
    "quote_all_identifiers": "on",
    "temp_file_limit": "0",
    "log_min_duration_sample": "0",
    "log_transaction_sample_rate": "1",
    "debug_print_parse": "on",
    "debug_print_rewritten": "on",
}
"""What somebody may set as a default. ``role`` is set for the role itself only, see below."""

JUDGED_CATEGORIES = (
    "Client Connection Defaults / %",
    "Version and Platform Compatibility / %",
    "Error Handling",
    "Reporting and Logging / What to Log",
)
"""Where PostgreSQL lists the settings that change what clients send, receive or leave behind."""
HARMLESS = frozenset(
    {
        # For types, objects and functions that our statements do not use.
        "array_nulls",
        "check_function_bodies",
        "default_table_access_method",
        "default_text_search_config",
        "default_toast_compression",
        "gin_fuzzy_search_limit",
        "gin_pending_list_limit",
        "lc_monetary",
        "lc_numeric",
        "lc_time",
        "lo_compat_privileges",
        "synchronize_seqscans",
        "temp_tablespaces",
        "restrict_nonsystem_relation_kind",
        "timezone_abbreviations",
        "xmlbinary",
        "xmloption",
        # For literals with backslashes, which we do not send.
        "backslash_quote",
        "escape_string_warning",
        # For the vacuum of tables.
        "vacuum_cost_delay",
        "vacuum_failsafe_age",
        "vacuum_freeze_min_age",
        "vacuum_freeze_table_age",
        "vacuum_multixact_failsafe_age",
        "vacuum_multixact_freeze_min_age",
        "vacuum_multixact_freeze_table_age",
        # About the log, but not about which statements it shows.
        "log_error_verbosity",
        "log_lock_waits",
        "log_parameter_max_length",
        "log_parameter_max_length_on_error",
        "log_replication_commands",
        "log_statement_sample_rate",
        "log_temp_files",
        "debug_pretty_print",
        # Each C library that we need is named with its path.
        "dynamic_library_path",
        # Set for each transaction or connection; a default has no effect.
        "application_name",
        "transaction_deferrable",
        "transaction_isolation",
        "transaction_read_only",
    }
)
"""Settings that any session may have, and that do not disturb ours."""
SETTABLE = """
    select name from pg_settings
     where context in ('user', 'superuser') and category like any(%s)
"""

END_ALL = """
    select pg_terminate_backend(pid) from pg_stat_activity
     where pid <> pg_backend_pid() and usename is not null
"""
PATRONI_SESSIONS = "select from pg_stat_activity where application_name like 'Patroni%'"


def test_what_a_version_does_not_know_is_not_asked_for() -> None:
    """A server refuses a session that names an unknown setting."""
    assert "transaction_timeout" not in superuser_settings(16)
    assert superuser_settings(17)["transaction_timeout"] == "0"
    assert superuser_settings(18)["event_triggers"] == "off"
    assert "-c default_transaction_isolation=read\\ committed" in superuser_options(14)


def test_patroni_asks_for_the_same_and_keeps_its_deadline() -> None:
    """In its configuration, which it passes to libpq; its timeout is still 2 s."""
    config = json.loads(patroni_config(DATA, SECRETS, LAYOUT, TLS, ["https://127.1.1.1:2379"]))
    who = config["postgresql"]["authentication"]
    assert who["superuser"]["options"] == patroni_options(15)
    assert "-c statement_timeout=2000 " in patroni_options(15)
    assert "-c default_transaction_read_only=off " in patroni_options(15)
    assert "options" not in who["replication"]


@pytest.fixture(scope="module")
def first(lab: Any) -> Any:
    """Return a writable node whose PostgreSQL has hostile defaults."""
    node = lab.node("first", 11, {"first": 11})
    node.start()
    lab.until(node.writable)
    with node.connect(options=superuser_options()) as connection:
        connection.execute("create role nobody")
        for name, value in HOSTILE.items():
            connection.execute(f"alter system set {name} = {value}".encode())
            for scope in ("role postgres", "database postgres", "role all"):
                connection.execute(f"alter {scope} set {name} = {value}".encode())
        connection.execute("alter role postgres set role = nobody")
        connection.execute("alter role postgres set session_authorization = nobody")
        connection.execute("select pg_reload_conf()")
        connection.execute(END_ALL)
    return node


async def ask(node: Any, *queries: str) -> list[Any]:
    """Run statements in one of our sessions; return the rows of the last."""
    superuser = Superuser(node.layout, node.identity.ports.postgres)
    async with await superuser.connect(node.identity.ha_address) as connection:
        for query in queries[:-1]:
            await connection.execute(query.encode())
        return await (await connection.execute(queries[-1].encode())).fetchall()


@pytest.mark.engines
def test_a_session_of_ours_does_its_work(first: Any) -> None:
    """It writes, and every setting is ours; another session of the same role is refused."""
    with pytest.raises(psycopg.Error):
        first.connect().execute("create role made")
    query = "select name, setting from pg_settings union all select 'session', session_user"
    found = dict(complete(ask(first, "create role made", "drop role made", query)))
    assert found.pop("session") == "postgres"
    wanted = superuser_settings(15) | {"default_transaction_isolation": "read committed"}
    shown = {name: found[name] for name in wanted if name in found}
    assert shown.pop("DateStyle").startswith("ISO")
    assert shown == {name: value for name, value in wanted.items() if name in shown}
    assert HOSTILE.keys() <= wanted.keys()


@pytest.mark.engines
def test_each_setting_that_a_session_may_have_was_judged(first: Any) -> None:
    """Those of the server's own categories for clients: set by us, or known to be harmless."""
    with first.connect(options=superuser_options(15)) as connection:
        rows = connection.execute(SETTABLE, [list(JUDGED_CATEGORIES)]).fetchall()
    assert {name for (name,) in rows} - superuser_settings(15).keys() - HARMLESS == set()


@pytest.mark.engines
def test_patroni_gets_text_whatever_the_encoding(first: Any) -> None:
    """A driver returns text that came as SQL_ASCII as bytes, which equal no text of Patroni's."""
    with first.connect(options=patroni_options(15)) as connection:
        query = "select 'streaming'::text, current_setting('synchronous_commit')"
        assert connection.execute(query).fetchone() == ("streaming", "local")


@pytest.mark.engines
def test_a_reload_changes_nothing_in_a_session_of_ours(lab: Any, first: Any) -> None:
    """What a session asked for when it connected outranks the files."""
    with first.connect(options=patroni_options(15)) as session:
        before = session.execute("select pg_conf_load_time()").fetchone()
        session.execute("alter system set client_encoding = LATIN1")
        session.execute("select pg_reload_conf()")
        lab.until(lambda: session.execute("select pg_conf_load_time()").fetchone() != before)
        assert session.execute("show client_encoding").fetchone() == ("UTF8",)


@pytest.mark.engines
def test_patroni_goes_on_looking_after_its_postgresql(lab: Any, first: Any) -> None:
    """Its sessions were ended above; it opens new ones, and still sees a primary."""
    lab.until(lambda: complete(ask(first, PATRONI_SESSIONS)))
    before = first.etcd(lambda store: store.get(keys.patroni_member("first")))
    member = lab.until(lambda: _newer(first, before.mod_revision))
    assert {"role": "primary", "state": "running"}.items() <= member.items()


def _newer(node: Any, revision: int) -> dict[str, Any] | None:
    found = node.etcd(lambda store: store.get(keys.patroni_member("first")))
    return json.loads(found.value) if found.mod_revision > revision else None
