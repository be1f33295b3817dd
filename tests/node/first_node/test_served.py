"""`vcha init` with real programs: the first node serves, and adopted data are all there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.first_node import ADMINISTRATOR, SURE_SECONDS, First
from tests.support.old_postgres import PASSWORD, ROWS, OldPostgres, old_postgres
from tests.support.waiting import until

from openvcha.node.first_node.making import PASSWORDS
from openvcha.node.identity import IDENTITY, load_identity
from openvcha.node.layout import Layout

pytestmark = pytest.mark.engines


@pytest.fixture
def first(tmp_path: Path) -> Iterator[First]:
    """Return a first node that is not made yet; end it after the test."""
    found = First(tmp_path / "node")
    yield found
    found.end()


@pytest.fixture
def old(tmp_path: Path) -> OldPostgres:
    """Return a PostgreSQL that was run without openvcha."""
    return old_postgres(tmp_path / "old")


def one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row
    return row[0]


def tree(directory: Path) -> dict[str, bytes | None]:
    """Return everything below a directory, contents included."""
    return {
        str(path): path.read_bytes() if path.is_file() else None for path in directory.rglob("*")
    }


def test_a_new_node_serves_alone(first: First) -> None:
    """With the database as the settings ask for it, and the generated passwords."""
    made = first.made("--set=postgresql.encoding=LATIN1", "--set=sessions.per_user=7")
    passwords = json.loads(Path(made["passwords_file"]).read_text())
    assert Path(made["passwords_file"]).stat().st_mode & 0o777 == 0o600
    assert load_identity(first.directory).sessions.per_user == 7
    first.start()
    until(lambda: first.active(passwords[ADMINISTRATOR]), SURE_SECONDS)
    until(lambda: first.reaches("app", passwords["app"], "app"), SURE_SECONDS)
    with first.connect("app", passwords["app"], "app") as connection:
        assert one(connection, "show server_encoding") == "LATIN1"
    assert not Layout(first.directory).first_administrator.exists()
    again = first.init()
    assert again.returncode == 1
    assert "already holds a node" in again.stdout


def test_adopted_data_are_served(first: First, old: OldPostgres) -> None:
    """Rows, roles and the system's identity stay; the cluster's roles are new."""
    system = old.programs.control(old.data)["Database system identifier"]
    elsewhere = old.data.parent / "postgresql.conf"  # as in Debian
    own = (old.data / "postgresql.conf").rename(elsewhere).read_text()
    places = "data_directory = '/old'\nhba_file = '/etc/x/pg_hba.conf'\ninclude_dir = 'conf.d'"
    elsewhere.write_text(f"{own}\n{places}\nwork_mem = '5MB'\n")
    (elsewhere.parent / "conf.d").mkdir()
    made = first.made(f"--adopt={old.data}", f"--settings-file={elsewhere}")
    assert made["superusers"] == ["admin"]
    assert not old.data.exists()
    passwords = json.loads(Path(made["passwords_file"]).read_text())
    assert set(passwords) == {ADMINISTRATOR}
    first.start()
    until(lambda: first.active(passwords[ADMINISTRATOR]), SURE_SECONDS)
    login = ("admin", PASSWORD.reveal(), "postgres")
    until(lambda: first.reaches(*login), SURE_SECONDS)
    with first.connect(*login) as connection:
        assert one(connection, "select count(*) from kept") == ROWS
        assert one(connection, "select system_identifier from pg_control_system()") == int(system)
        assert one(connection, "select rolsuper from pg_roles where rolname = 'admin'")
        assert one(connection, "show work_mem") == "5MB"
        connection.execute("insert into kept values (0)")
        names = (
            "select count(*) from pg_roles where rolname in ('postgres', 'replicator', 'rewind')"
        )
        assert one(connection, names) == 3
    kept = first.directory / "adopted" / "pg_hba.conf"
    assert "trust" in kept.read_text()


def test_what_is_refused_changes_nothing(first: First, old: OldPostgres) -> None:
    """Neither the data nor the place of the node; a dry run does not either."""
    outside = old.data.parent / "space"
    outside.mkdir()
    (old.data / "pg_tblspc" / "16384").symlink_to(outside)
    (old.data / "standby.signal").touch()
    before = tree(old.data.parent)
    refused = first.init(f"--adopt={old.data}")
    assert refused.returncode == 1
    said = [each["text"] for each in json.loads(refused.stdout)["findings"]]
    assert any("tablespaces are outside" in text for text in said)
    assert any("standby.signal" in text for text in said)
    after = tree(old.data.parent)
    after.pop(str(first.directory.parent / "openvcha.toml"))
    assert after == before
    (old.data / "pg_tblspc" / "16384").unlink()
    (old.data / "standby.signal").unlink()
    before = tree(old.data.parent)
    dry = first.init(f"--adopt={old.data}", "--dry-run")
    assert (dry.returncode, tree(old.data.parent)) == (0, before)
    assert not first.directory.exists()


def test_a_server_that_runs_or_crashed_is_not_adopted(first: First, old: OldPostgres) -> None:
    """Two servers on the same data would destroy them."""
    options = f"-c listen_addresses= -c unix_socket_directories={old.data}"
    old.call("pg_ctl", "-D", str(old.data), "-w", "-o", options, "-l", "/dev/null", "start")
    running = first.init(f"--adopt={old.data}")
    old.call("pg_ctl", "-D", str(old.data), "-w", "-m", "immediate", "stop")
    crashed = first.init(f"--adopt={old.data}")
    assert "a server may be running" in running.stdout
    assert "was not shut down cleanly" in crashed.stdout
    assert running.returncode == crashed.returncode == 1
    assert not first.directory.exists()


def test_a_copy_leaves_the_original(first: First, old: OldPostgres) -> None:
    """And a crash after the data were brought is continued by the same command."""
    made = first.made(f"--adopt={old.data}", "--copy")
    assert made["superusers"] == ["admin"]
    assert (old.data / "PG_VERSION").exists()
    (first.directory / IDENTITY).unlink()
    mark = first.directory / "first-node.json"
    mark.write_text(json.dumps({"adopted": {"source": str(old.data), "system": "1"}}))
    (first.directory / PASSWORDS).unlink()
    other = first.init()
    assert "continue with --adopt" in other.stdout
    assert first.made(f"--adopt={old.data}", "--copy")["superusers"] == ["admin"]
    assert (first.directory / IDENTITY).exists()
    assert not mark.exists()
