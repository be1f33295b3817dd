"""Users' settings that override the cluster's are found, with their file."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.engine_config import LAYOUT, PLAIN, TLS
from tests.support.nodes import SECRETS, complete

from openvcha.node.engines import find_engines
from openvcha.node.identity import load_secrets
from openvcha.node.postgres.diagnosis.missing_files import MissingFile
from openvcha.node.postgres.diagnosis.user_settings import missing, overrides
from openvcha.node.postgres.member_slots import MemberSlots, MemberSlotsFile
from openvcha.node.postgres.own_names import REPLICATION_USER
from openvcha.node.postgres.own_roles import repair_roles
from openvcha.node.postgres.own_sessions import superuser_options, superuser_settings
from openvcha.node.postgres.settings import is_owned, is_vital, local_settings, shared_settings
from openvcha.node.postgres.standby_data.pg_basebackup import (
    backup_argv,
    backup_environment,
    pgpass_line,
)
from openvcha.node.postgres.superuser import Superuser
from openvcha.node.process.spawn import program_environment
from openvcha.store.node_facts import PostgresFacts

PGDATA = Path("/srv/a/pgdata")
AUTO = str(PGDATA / "postgresql.auto.conf")


@pytest.mark.parametrize(
    ("row", "vital"),
    [
        (("synchronous_standby_names", "", AUTO, False), True),
        (("recovery_target_time", "2026-01-01", AUTO, False), True),
        (("fsync", "off", "/etc/extra.conf", False), True),
        (("wal_keep_size", "0", AUTO, False), False),
        (("synchronous_commit", "off", AUTO, False), False),
        (("synchronous_commit", "No", AUTO, False), False),
        (("synchronous_commit", "on", AUTO, False), None),
        (("log_min_messages", "fatal", AUTO, False), False),
        (("log_min_messages", "error", AUTO, False), None),
        (("restore_command", "sleep 3600", AUTO, False), True),
        (("dynamic_library_path", "/usr/local/lib", AUTO, False), True),
        (("dynamic_library_path", "$libdir:/usr/local/lib", AUTO, False), None),
        (("post_auth_delay", "60", AUTO, False), True),
        (("post_auth_delay", "0", AUTO, False), None),
        (("pre_auth_delay", "0s", AUTO, False), None),
        (("pre_auth_delay", "10ms", AUTO, False), True),
        (("ssl_ciphers", "no such cipher", AUTO, False), True),
        (("ssl_max_protocol_version", "TLSv1.1", AUTO, False), True),
        (("ssl_crl_file", "/etc/crl.pem", AUTO, False), True),
        (("ssl_passphrase_command", "sleep 3600", AUTO, False), True),
        (("ssl_min_protocol_version", "TLSv1", AUTO, False), False),
        (("log_truncate_on_rotation", "off", AUTO, False), False),
        (("work_mem", "4096", AUTO, False), None),
        (("wal_keep_size", "256", str(PGDATA / "postgresql.conf"), False), None),
        (("fsync", "on", str(PGDATA / "postgresql.base.conf"), False), None),
        (("fsync", "on", "/another/way/to/pgdata/postgresql.conf", False), None),
        (("port", "5432", None, False), None),
    ],
)
def test_what_the_cluster_sets_and_another_file_overrides(row: Any, vital: bool | None) -> None:
    """Neither the users' own settings, nor those in the cluster's own files."""
    found = overrides([row])
    assert [each.vital for each in found] == ([] if vital is None else [vital])


@pytest.mark.parametrize(
    ("values", "vital"),
    [
        ({"ssl_ciphers": "ECDHE+AESGCM"}, False),
        ({"ssl_ciphers": "no such cipher"}, True),
        ({"ssl_ciphers": "a\0b"}, True),
        ({"ssl_ecdh_curve": "secp384r1"}, False),
        ({"ssl_ecdh_curve": "X25519"}, True),
        ({"ssl_groups": "X25519:prime256v1"}, False),
        ({"ssl_groups": "X25519:x"}, True),
        ({"ssl_tls13_ciphers": "TLS_AES_256_GCM_SHA384"}, False),
        ({"ssl_tls13_ciphers": "TLS_AES"}, True),
        ({"ssl_min_protocol_version": "TLSv1.3"}, False),
        ({"ssl_min_protocol_version": "SSLv3"}, True),
        ({"ssl_min_protocol_version": "TLSv1.3", "ssl_max_protocol_version": "tlsv1.2"}, True),
        ({"ssl_min_protocol_version": "TLSv1.3", "ssl_max_protocol_version": ""}, False),
        ({"ssl_max_protocol_version": "TLSv1.2"}, False),
        ({"ssl_max_protocol_version": "TLSv1.1"}, True),
    ],
)
def test_hardened_tls_is_a_warning_unless_it_does_not_fit(
    values: dict[str, str], vital: bool
) -> None:
    """A refusal would forbid a redeploy in an outage; a start that fails would as well."""
    found = overrides([(name, value, AUTO, False) for name, value in values.items()])
    assert [each.vital for each in found] == [vital] * len(values)


def test_everything_that_a_node_writes_is_the_cluster_s() -> None:
    """A setting added to a node's own is recognized here too; max_connections is the users'."""
    ours = {**shared_settings(), **local_settings(LAYOUT, TLS), **local_settings(LAYOUT, PLAIN)}
    left = {name for name in ours if not is_owned(name, "")}
    assert left <= {"max_connections"}
    assert is_vital("primary_conninfo", {})


def test_libraries_are_looked_for_where_postgresql_does(tmp_path: Path) -> None:
    """By name, in the library directory, or by a path; with and without the suffix."""
    (tmp_path / "there.so").touch()
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "more.so").touch()
    names = ["there", "there.so", "$libdir/there", "$libdir/plugins/more", str(tmp_path / "there")]
    assert missing(names, tmp_path) == ()
    assert missing(["timescaledb", "$libdir/x", "timescaledb"], tmp_path) == (
        "timescaledb",
        "$libdir/x",
    )


@pytest.mark.engines
def test_a_real_node_is_surveyed(lab: Any) -> None:
    """Nothing at first; then each change by a person. A member's slot is none."""
    node = lab.node("first", 12, {"first": 12})
    node.start()
    lab.until(node.writable)
    roles = "select count(*) = 2 from pg_roles where rolname in ('replicator', 'rewind')"
    lab.until(lambda: node.value(roles))
    MemberSlotsFile(node.layout.member_slots).write(MemberSlots(made=("gone_a1b2c3",)))
    before = inspected(node)
    assert (before.overrides, before.pending_restart, before.missing_libraries) == ((), (), ())
    assert (before.slots, before.roles, before.collations) == ((), (), ())
    assert before.shared["max_wal_senders"] == "10"
    with node.connect() as connection:
        for statement in (
            "alter system set synchronous_standby_names = ''",
            "alter system set shared_preload_libraries = 'timescaledb'",
            "alter system set max_connections = 300",
            "alter role replicator set statement_timeout = '1s'",
            "select pg_reload_conf()",
            "select pg_create_physical_replication_slot('barman', true)",
            "select pg_create_physical_replication_slot('backup_202510')",
            "select pg_create_physical_replication_slot('gone_a1b2c3')",
        ):
            connection.execute(statement.encode())
    lab.until(lambda: inspected(node).overrides and inspected(node).pending_restart)
    told = inspected(node)
    assert [(each.name, each.vital) for each in told.overrides] == [
        ("synchronous_standby_names", True)
    ]
    assert told.overrides[0].file.endswith("postgresql.auto.conf")
    assert "shared_preload_libraries" in told.pending_restart
    assert told.missing_libraries == ("timescaledb",)
    assert told.slots == ("backup_202510", "barman")
    assert told.roles == ("replicator: statement_timeout=1s",)
    # It is on the command line, so what ALTER SYSTEM sets never takes effect.
    assert "max_connections" not in told.pending_restart
    assert node.value("show max_connections") == "200"


@pytest.mark.engines
def test_what_our_own_session_sets_for_itself_hides_nothing(lab: Any) -> None:
    """Regression: such settings looked unset; rows could be lost, without a warning."""
    node = lab.nodes[-1]
    ours = [name for name in superuser_settings() if is_owned(name, "off")]
    assert {"synchronous_commit", "password_encryption", "lc_messages"} <= set(ours)
    values = {"lc_messages": "C.UTF-8", "password_encryption": "md5", "log_min_messages": "fatal"}
    wanted = {**dict.fromkeys(ours, "off"), **values}
    with node.connect() as connection:
        for name, value in wanted.items():
            connection.execute(f"alter system set {name} = '{value}'".encode())
        connection.execute("select pg_reload_conf()")
    try:
        lab.until(lambda: wanted.keys() <= {each.name for each in inspected(node).overrides})
        told = {each.name: each for each in inspected(node).overrides}
        assert {name: told[name].value for name in wanted} == wanted
        assert all(told[name].file.endswith("postgresql.auto.conf") for name in wanted)
    finally:
        with node.connect() as connection:
            for name in wanted:
                connection.execute(f"alter system reset {name}".encode())
            connection.execute("select pg_reload_conf()")
    lab.until(lambda: not wanted.keys() & {each.name for each in inspected(node).overrides})


@pytest.mark.engines
def test_databases_and_roles_whose_commits_do_not_wait_are_found(lab: Any) -> None:
    """However the value is written; a stricter value is fine."""
    node = lab.nodes[-1]
    alone = (
        'database "we b"',
        "role app",
        "role app in database app",
        "role all",
    )
    with node.connect() as connection:
        connection.execute('create database "we b"')
        for whose, value in zip(alone, ("off", "local", "false", "0"), strict=True):
            connection.execute(f"alter {whose} set synchronous_commit = {value}".encode())
        connection.execute("alter database app set synchronous_commit = remote_apply")
    try:
        assert inspected(node).commits == (
            'DATABASE "we b": off',
            "ROLE ALL: 0",
            "ROLE app: local",
            "ROLE app IN DATABASE app: false",
        )
    finally:
        with node.connect() as connection:
            for whose in (*alone, "database app"):
                connection.execute(f"alter {whose} reset synchronous_commit".encode())
            connection.execute('drop database "we b"')
    assert inspected(node).commits == ()


@pytest.mark.engines
def test_what_databases_use_is_looked_for_in_each(lab: Any) -> None:
    """Nothing at first; what an upgrade of the machine breaks is shown with its database."""
    node = lab.nodes[-1]
    superuser = Superuser(node.layout, node.identity.ports.postgres)
    address = node.identity.ha_address
    assert complete(superuser.missing_files(address)) == ()
    with node.connect() as connection:
        connection.execute("create database shop")
        connection.execute("update pg_database set datcollversion = '0' where datname = 'shop'")
    with node.connect(dbname="shop") as connection:
        connection.execute("update pg_extension set extname = 'postgis'")
        connection.execute(
            "update pg_proc set probin = '$libdir/postgis-3' where probin is not null"
        )
    assert complete(superuser.missing_files(address)) == (
        MissingFile("shop", "postgis", extension=True),
        MissingFile("shop", "$libdir/postgis-3", extension=False),
    )
    (order,) = inspected(node).collations
    assert order.startswith("shop with 0, here ")


@pytest.mark.engines
def test_roles_of_the_cluster_get_back_what_was_taken(lab: Any) -> None:
    """By the node itself, as its log shows; a privilege of PUBLIC is not restored."""
    node = lab.nodes[-1]
    with node.connect() as connection:
        for statement in (
            "revoke connect on database postgres from public",
            "revoke connect on database postgres from rewind",
            "revoke execute on function pg_read_binary_file(text) from rewind",
            "alter role rewind nologin connection limit 0",
            "alter role replicator noreplication valid until '2020-01-01'",
            # With an expiry date by policy, the cluster would lose access to its own database.
            "alter role postgres valid until '2999-01-01'",
        ):
            connection.execute(statement.encode())
    rewinds = """
        select has_database_privilege('rewind', 'postgres', 'connect')
           and has_function_privilege('rewind', 'pg_read_binary_file(text)', 'execute')
           and bool_and(rolcanlogin and rolconnlimit = -1 and rolvaliduntil is distinct from
                        '2020-01-01' and (rolreplication or rolname = 'rewind'))
          from pg_roles where rolname in ('rewind', 'replicator')
    """
    lab.until(lambda: node.value(rewinds))
    assert not node.value("select has_database_privilege('app', 'postgres', 'connect')")
    lab.until(lambda: "grant connect on database postgres to rewind" in node.log("supervisor"))
    lab.until(lambda: "alter role postgres superuser login" in node.log("supervisor"))
    assert node.value("select rolvaliduntil = 'infinity' from pg_roles where rolname = 'postgres'")
    assert node.value("show superuser_reserved_connections") == "10"


@pytest.mark.engines
@pytest.mark.parametrize(
    ("took", "back"),
    [
        ("alter database postgres connection limit 0", ""),
        (
            "alter database postgres set session_preload_libraries = 'nope'",
            "alter database postgres reset session_preload_libraries",
        ),
        (
            "alter role all set local_preload_libraries = 'nope'",
            "alter role all reset local_preload_libraries",
        ),
        (
            "alter role all set client_encoding = LATIN1",
            "alter role all reset client_encoding",
        ),
        (
            "alter role rewind in database postgres set session_preload_libraries = 'nope'",
            "alter role rewind in database postgres reset session_preload_libraries",
        ),
        ("alter role rewind in database postgres reset all", ""),
    ],
)
def test_a_former_active_can_rewind_whatever_stands_in_the_way_of_all(
    lab: Any, took: str, back: str
) -> None:
    """Its role still connects, and has none of the defaults set for all roles.

    The node does the same every ten seconds, as the test above shows.
    """
    node = lab.nodes[-1]
    with node.connect(options=superuser_options()) as connection:
        connection.execute("alter role all set idle_session_timeout = '1s'")
        connection.execute(took.encode())
    try:
        repair(node)
        lab.until(lambda: rewinds(node) == ("", "0", "UTF8"))
        assert not [role for role in inspected(node).roles if role.startswith("rewind")]
        # Nor is it repeated every ten seconds.
        assert repair(node) == ()
    finally:
        with node.connect(options=superuser_options()) as connection:
            connection.execute("alter role all reset idle_session_timeout")
            if back:
                connection.execute(back.encode())


def rewinds(node: Any) -> tuple[Any, ...] | str:
    """Return what a session of the rewind role can do, or why it fails."""
    names = ("local_preload_libraries", "idle_session_timeout", "client_encoding")
    own = ", ".join(f"current_setting('{name}')" for name in names)
    try:
        with node.connect("rewind", dbname="postgres") as connection:
            return connection.execute(f"select {own}".encode()).fetchone() or ()
    except psycopg.Error as error:
        return str(error)


def repair(node: Any) -> tuple[str, ...]:
    """Restore the privileges of the cluster's roles; return those that they lacked just now."""

    async def done() -> tuple[str, ...]:
        superuser = Superuser(node.layout, node.identity.ports.postgres)
        async with await superuser.connect(node.identity.ha_address) as session:
            return (await repair_roles(session, load_secrets(node.directory))).done

    return complete(done())  # type: ignore[no-any-return]


@pytest.mark.engines
def test_the_server_says_in_its_log_why_a_copy_failed(lab: Any, tmp_path: Path) -> None:
    """The client only sees that the copy ended; a complete copy leaves no message.

    What a WAL archiver leaves does not disturb a copy.
    """
    node = lab.nodes[-1]
    archived(node.layout.pgdata / "pg_wal")
    lab.until(lambda: copied(node, tmp_path / "whole").returncode == 0)
    began = datetime.now(UTC)
    superuser = Superuser(node.layout, node.identity.ports.postgres)
    assert complete(superuser.base_backup_error(began)) is None
    original = next((node.layout.pgdata / "base").glob("*/1259"))
    stray = original.with_name("1259.orig")
    stray.write_bytes(original.read_bytes())
    stray.chmod(0o644)
    failed = copied(node, tmp_path / "broken")
    stray.unlink()
    assert failed.returncode != 0
    assert "invalid segment number" not in failed.stderr
    error = lab.until(lambda: complete(superuser.base_backup_error(began)))
    assert "invalid segment number" in error.message
    assert error.final


def archived(wal: Path) -> None:
    """Leave an archiver's files, one of them unfinished: as root, whom no permission stops."""
    for name in ("000000010000000000000001.ready", "00000002.history.done", ".lock"):
        (wal / "archive_status" / name).touch(0o600)
    for name in ("000000010000000000000001.partial", "000000010000000000000001.00000028.backup"):
        (wal / name).touch(0o600)
    (wal / ".barman").mkdir(0o700)
    (wal / ".barman" / "spool").touch(0o600)


@pytest.mark.engines
def test_a_file_that_the_server_may_not_read_ends_a_copy_with_its_name(
    lab: Any, tmp_path: Path
) -> None:
    """The failure repeats with each copy."""
    node = lab.nodes[-1]
    began = datetime.now(UTC)
    hidden = node.layout.pgdata / "notes.txt"
    hidden.touch(0o000)
    try:
        failed = copied(node, tmp_path / "hidden")
    finally:
        hidden.unlink()
    assert failed.returncode != 0
    superuser = Superuser(node.layout, node.identity.ports.postgres)
    error = lab.until(lambda: complete(superuser.base_backup_error(began)))
    assert "notes.txt" in error.message
    assert error.final


def copied(node: Any, target: Path) -> subprocess.CompletedProcess[str]:
    """Copy a node's data as a new node does."""
    postgres, layout = find_engines().postgres, node.layout
    pgpass = target.with_suffix(".pgpass")
    pgpass.write_bytes(pgpass_line(REPLICATION_USER, SECRETS.replication.reveal()))
    pgpass.chmod(0o600)
    address, port = node.identity.ha_address, node.identity.ports.postgres
    argv = backup_argv(postgres, target, address, port, REPLICATION_USER)
    environment = program_environment(os.environ, backup_environment(layout, postgres, pgpass))
    return subprocess.run(
        argv, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def inspected(node: Any) -> PostgresFacts:
    superuser = Superuser(node.layout, node.identity.ports.postgres)
    return complete(superuser.inspect(node.identity.ha_address))  # type: ignore[no-any-return]
