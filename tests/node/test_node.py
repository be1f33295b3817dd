"""Real nodes: etcd, Patroni and PostgreSQL of this machine, on loopback addresses."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

import psycopg
import pytest

from openvcha.node.process.process_tree import REAPER, find_tree
from openvcha.node.process.status import PartState, load_status
from openvcha.store import base_backup_reports, keys
from openvcha.store.base_backup_reports import BaseBackupState
from openvcha.store.errors import StoreError

pytestmark = pytest.mark.engines

MEMBERS = {"first": 11}


@pytest.fixture(scope="module")
def first(lab: Any) -> Any:
    """Return a first node that is writable; started once for all tests of this module."""
    node = lab.node("first", 11, MEMBERS)
    node.start()
    lab.until(node.writable)
    return node


def part(node: Any, name: str) -> Any:
    """Return the supervisor's status of a part."""
    status = load_status(node.directory)
    assert status
    return next(found for found in status.parts if found.name == name)


def test_a_new_cluster_is_writable(first: Any) -> None:
    """The first node of a cluster takes writes; on an idle machine within 4 s."""
    with first.connect("app") as connection:
        connection.execute("create table if not exists kept (id int)")
        connection.execute("insert into kept values (1)")


def test_data_are_guarded(first: Any) -> None:
    """Checksums are on, passwords are scram, connections are TLS, other addresses do not listen."""
    assert first.value("show data_checksums") == "on"
    assert first.value("select rolpassword ~ '^SCRAM' from pg_authid where rolname = 'app'")
    assert first.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
    assert first.value("show unix_socket_directories") == ""
    assert first.value("show listen_addresses") == first.identity.ha_address
    mode = (first.directory / "patroni.yml").stat().st_mode & 0o777
    assert mode == 0o600


@pytest.mark.parametrize(
    "changes",
    [
        {"sslmode": "disable"},
        {"password": "wrong"},
        {"sslcert": "/nonexistent", "sslkey": "/nonexistent"},
    ],
    ids=["no TLS", "wrong password", "no certificate"],
)
def test_the_superuser_needs_tls_password_and_certificate(
    first: Any, changes: dict[str, str]
) -> None:
    """Without any one of the three, a client does not become superuser."""
    with pytest.raises(psycopg.OperationalError):
        first.connect("postgres", **changes).close()


def test_the_node_is_not_root(first: Any) -> None:
    """PostgreSQL refuses root, so a node that was started as root has dropped it."""
    assert first.value("select pg_backend_pid() > 0")
    assert all(pid != os.getpid() for pid in first.pids())
    assert len(first.pids()) > 6


def test_a_second_supervisor_is_refused(lab: Any, first: Any) -> None:
    """A second start exits at once and leaves the first alone."""
    before = load_status(first.directory)
    running = first.process
    first.start()
    second, first.process = first.process, running
    assert second.wait(120) == 1
    after = load_status(first.directory)
    assert before
    assert after
    assert before.pid == after.pid
    lab.until(first.writable)


@pytest.mark.parametrize("name", ["patroni", "etcd"])
def test_a_part_that_dies_is_started_again(lab: Any, first: Any, name: str) -> None:
    """A killed part comes back, and PostgreSQL keeps running meanwhile."""
    postmaster = first.value("select pg_postmaster_start_time()")
    before = part(first, name)
    os.kill(before.pid, signal.SIGKILL)
    lab.until(lambda: part(first, name).restarts == before.restarts + 1)
    again = lab.until(lambda: part(first, name).pid and part(first, name))
    assert again.last_exit == "killed by SIGKILL"
    assert again.pid != before.pid
    lab.until(first.writable)
    assert first.value("select pg_postmaster_start_time()") == postmaster


def vcha_store(node: Any, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `vcha node store`."""
    command = [sys.executable, "-m", "openvcha", "node", "store", words[0], str(node.directory)]
    return subprocess.run(
        [*command, *words[1:]], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_value_that_cannot_be_read_is_set_aside_by_command(lab: Any, first: Any) -> None:
    """The node goes on meanwhile; valid records stay."""
    lab.until(first.writable)
    key = keys.node_facts("broken")
    first.etcd(lambda store: store.put(key, b'{"\xff\x1b[2J'))
    listed = vcha_store(first, "list")
    assert listed.stdout.startswith(f"{key}: "), listed.stderr
    assert "\x1b" not in listed.stdout
    assert vcha_store(first, "set-aside", keys.PATRONI_CONFIG).returncode == 1
    done = vcha_store(first, "set-aside", key)
    assert done.returncode == 0, done.stderr
    assert vcha_store(first, "list").stdout == "all records can be read\n"
    assert first.etcd(lambda store: store.get(key)) is None
    assert len(first.etcd(lambda store: store.prefix(keys.ASIDE))) == 1
    assert first.etcd(lambda store: store.get(keys.PATRONI_CONFIG))


def test_a_second_node_copies_joins_and_protects(lab: Any, first: Any) -> None:
    """A second node copies the data, streams, becomes synchronous, and stops cleanly."""
    lab.until(first.writable)
    second = lab.node(
        "second", 12, {**MEMBERS, "second": 12}, etcd_state="existing", copy_from_leader=True
    )
    peer = second.identity.etcd_initial_cluster["second"]
    member = first.etcd(lambda store: store.member_add([peer]))
    second.start()
    lab.until(lambda: promoted(first, member.id))
    lab.until(lambda: "second" in synchronous(first))
    report = base_backup_reports.decode(
        first.etcd(lambda store: store.get(keys.base_backup_report("second"))).value
    )
    assert report.state is BaseBackupState.DONE
    assert report.bytes_done == report.bytes_total > 0
    assert second.value("select count(*) from pg_stat_wal_receiver where status = 'streaming'") == 1
    with second.connect("app") as connection:
        assert connection.execute("select id from kept").fetchall() == [(1,)]
    first.etcd(lambda store: store.member_remove(member.id))
    assert second.stop() == 0
    assert second.pids() == []


def test_a_node_whose_supervisor_is_killed_ends(lab: Any, first: Any) -> None:
    """No process would restart its parts; PostgreSQL is stopped in order, and starts again."""
    lab.until(first.writable)
    before = first.pids()
    first.process.kill()
    first.process.wait()
    assert len(before) > 6
    lab.until(lambda: not any(alive(pid) for pid in before) and first.pids() == [])
    assert "the supervisor died" in first.log("reaper")
    first.start()
    lab.until(first.writable)
    assert first.value("select count(*) from pg_database where datname = 'app'") == 1


def test_orphans_are_ended_by_the_next_start(lab: Any, first: Any) -> None:
    """After kill -9 of the supervisor none of its processes survives, frozen or not."""
    lab.until(first.writable)
    orphans = first.pids()
    reaper = next(process for process in find_tree(first.directory) if REAPER in process.argv)
    os.kill(reaper.pid, signal.SIGSTOP)
    first.process.kill()
    first.process.wait()
    assert len(orphans) > 3
    first.start()
    lab.until(lambda: not any(alive(pid) for pid in orphans))
    lab.until(first.writable)
    assert first.value("select count(*) from pg_database where datname = 'app'") == 1


def test_a_reaper_that_ended_is_started_again(lab: Any, first: Any) -> None:
    """Nothing else is affected."""

    def reaper() -> int | None:
        found = find_tree(first.directory)
        return next((process.pid for process in found if REAPER in process.argv), None)

    ended = lab.until(reaper)
    os.kill(ended, signal.SIGKILL)
    lab.until(lambda: (now := reaper()) and now != ended)
    assert first.writable()


def test_a_witness_runs_etcd_only(lab: Any) -> None:
    """A witness has a store, but no data, no secrets and no authority key."""
    witness = lab.node("witness", 13, {"witness": 13}, kind="witness")
    witness.start()
    lab.until(lambda: witness.layout.status.exists() and part(witness, "etcd").pid)
    lab.until(lambda: store_answers(witness))
    assert not (witness.directory / "secrets.json").exists()
    assert not (witness.directory / "tls" / "ca.key").exists()
    assert len(witness.pids()) == 3  # the supervisor, etcd and the reaper
    assert witness.stop() == 0
    assert witness.pids() == []


def test_sigterm_ends_everything_in_order(lab: Any, first: Any) -> None:
    """SIGTERM stops PostgreSQL cleanly before the store that guards it, and leaves no process."""
    lab.until(first.writable)
    assert first.stop() == 0
    assert first.pids() == []
    lines = [json.loads(line) for line in first.log("supervisor").splitlines()]
    stopped = [line["program"] for line in lines if line["event"] == "stopped"]
    assert stopped == ["patroni", "etcd", "reaper"]
    assert "database system is shut down" in next(first.layout.logs.glob("*.json")).read_text()


def test_a_node_that_was_replaced_stays_out(lab: Any) -> None:
    """A node that the store has removed does not run PostgreSQL when it comes back."""
    keeper = lab.node("keeper", 21, {"keeper": 21}, kind="witness")
    keeper.start()
    lab.until(lambda: store_answers(keeper))
    members = {"keeper": 21, "replaced": 22}
    replaced = lab.node("replaced", 22, members, etcd_state="existing")
    replaced.start()
    lab.until(lambda: replaced.layout.status.exists() and part(replaced, "etcd").restarts > 1)
    assert part(replaced, "patroni").state is PartState.WAITING
    assert not replaced.layout.pgdata.exists()
    assert replaced.stop() == 0
    assert keeper.stop() == 0


def promoted(node: Any, member: int) -> bool:
    """Make a learner a voter; return False while it is not ready."""
    with contextlib.suppress(StoreError):
        node.etcd(lambda store: store.member_promote(member))
        return True
    return False


def synchronous(node: Any) -> str:
    """Return the standby that Patroni's /sync key names."""
    found = node.etcd(lambda store: store.get(keys.PATRONI_SYNC))
    return (json.loads(found.value).get("sync_standby") or "") if found else ""


def store_answers(node: Any) -> bool:
    """Return whether the node's etcd serves."""
    with contextlib.suppress(StoreError):
        return node.etcd(lambda store: store.get("/x")) is None
    return False


def alive(pid: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
