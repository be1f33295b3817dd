"""What people change in their own PostgreSQL, and how the cluster handles it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.support.lab.failover import superuser, there, wait_for_successor
from tests.support.lab.running_lab import RunningLab, message_ids
from tests.support.lab.writer import Writer

pytestmark = [pytest.mark.engines, pytest.mark.soak]
FAILOVER = "/vcenter/vcha/cluster?action=failover&vmw-task=true"
ENDED = "57P01"
"""admin_shutdown: PostgreSQL's own cancel at 30 s would be another one."""


@contextlib.contextmanager
def reader_in_the_way(running: RunningLab, table: str) -> Iterator[psycopg.Connection]:
    """Hold a long read on the passive that conflicts with a table change on the active."""
    with superuser(running, "ACTIVE") as active, superuser(running, "PASSIVE") as passive:
        active.execute(f"create table {table} ()".encode())
        running.until(lambda: there(passive, table))
        passive.execute("begin")
        passive.execute(f"select count(*) from {table}".encode())
        active.execute(f"alter table {table} add column n text".encode())
        yield passive


def test_planned_a_reader_on_the_passive_is_waited_for(running: RunningLab, writer: Writer) -> None:
    """The task names the session; the old active goes on until replay is no longer delayed."""
    old = running.name_of("ACTIVE")
    with reader_in_the_way(running, "waited_for") as reader:
        pid = reader.info.backend_pid
        task = running.admin.call("POST", FAILOVER, {"planned": True}, 202)
        running.until(lambda: f"process id {pid} " in shown(running, task))
        before = len(writer.acknowledged)
        running.until(lambda: len(writer.acknowledged) > before)
        reader.execute("rollback")
        assert running.admin.finished(task)["status"] == "SUCCEEDED"
    assert running.name_of("PASSIVE") == old
    assert writer.missing() == set()


def test_forced_a_reader_on_the_passive_is_ended(running: RunningLab, writer: Writer) -> None:
    """Earlier than PostgreSQL would: clients wait for no reader."""
    running.until(running.healthy)
    with reader_in_the_way(running, "ended") as reader:
        task = running.admin.call("POST", FAILOVER, {"planned": False}, 202)
        assert running.admin.finished(task)["status"] == "SUCCEEDED"
        with pytest.raises(psycopg.OperationalError) as caught:
            reader.execute("select 1")
    assert caught.value.sqlstate == ENDED
    assert writer.missing() == set()


def shown(running: RunningLab, task: str) -> str:
    """Return the task's progress message; empty while there is none."""
    info = running.admin.get_task(task)
    return str(info.get("progress", {}).get("message", {}).get("default_message", ""))


CHECK = "/vcenter/vcha/cluster/passive?action=check"
UNDEPLOY = "/vcenter/vcha/cluster?action=undeploy&vmw-task=true"


def placed(running: RunningLab, name: str) -> dict[str, Any]:
    return {"placement": {"name": name, "folder": running.folder}}


def as_superuser(running: RunningLab, *statements: str) -> None:
    with superuser(running, "ACTIVE") as active:
        for statement in statements:
            active.execute(statement.encode())


def repaired(running: RunningLab, name: str) -> dict[str, Any]:
    """Redeploy the passive, and return how the task ended."""
    return running.admin.finished(running.admin.redeploy(placed(running, name)))


def test_an_overridden_setting_is_refused_with_the_way_back(degraded: RunningLab) -> None:
    """The refusal changes nothing."""
    name = "synchronous_standby_names"
    as_superuser(degraded, f"alter system set {name} = ''", "select pg_reload_conf()")
    body = placed(degraded, "never")
    degraded.until(lambda: bool(degraded.admin.call("POST", CHECK, body)["errors"]))
    (error,) = degraded.admin.call("POST", CHECK, body)["errors"]
    assert f"ALTER SYSTEM RESET {name}; SELECT pg_reload_conf();" in error["default_message"]
    as_superuser(degraded, f"alter system reset {name}", "select pg_reload_conf()")
    degraded.until(lambda: not degraded.admin.call("POST", CHECK, body)["errors"])


def test_a_missing_library_is_warned_of_and_ends_the_task_soon(degraded: RunningLab) -> None:
    """With PostgreSQL's own words, which are kept although the node is deleted."""
    as_superuser(
        degraded,
        "alter system set shared_preload_libraries = 'timescaledb'",
        "select pg_reload_conf()",
    )
    body = placed(degraded, "never")
    degraded.until(lambda: len(degraded.admin.call("POST", CHECK, body)["warnings"]) > 1)
    info = repaired(degraded, "unstarted")
    as_superuser(degraded, "alter system reset shared_preload_libraries", "select pg_reload_conf()")
    assert info["status"] == "FAILED", info
    assert message_ids(info["error"])[0] == "join.start.failed"
    assert 'could not access file "timescaledb"' in str(info["error"]["messages"])


def test_the_server_s_reason_of_a_failed_copy_is_told(degraded: RunningLab) -> None:
    """A file beside the data that is not one of their segments."""
    base = degraded.layout(degraded.name_of("ACTIVE")).pgdata / "base"
    original = next(base.glob("*/1259"))
    stray = original.with_name("1259.orig")
    stray.write_bytes(original.read_bytes())
    try:
        info = repaired(degraded, "uncopied")
    finally:
        stray.unlink()
    assert info["status"] == "FAILED", info
    assert message_ids(info["error"]) == ["copy.failed"]
    assert "invalid segment number" in str(info["error"]["messages"])


def test_a_slot_of_a_backup_outlives_a_redeploy(degraded: RunningLab) -> None:
    """A warning says that it is on one node only, for as long as that is so.

    Its name has the form of a member's. The slot of the old passive is dropped, with an event.
    """
    backup = "backup_202510"
    as_superuser(degraded, f"select pg_create_physical_replication_slot('{backup}', true)")
    warned = degraded.admin.call("POST", CHECK, placed(degraded, "never"))["warnings"]
    assert backup in str(warned)
    assert repaired(degraded, "with-slot")["status"] == "SUCCEEDED"
    degraded.until(lambda: backup in str(degraded.admin.cluster().get("health_warnings")))
    degraded.until(lambda: "slot.dropped" in str(degraded.admin.call("GET", "/openvcha/events")))
    with superuser(degraded, "ACTIVE") as active:
        query = "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
        query += f" where slot_name = '{backup}'"
        dropped = active.execute(query.encode()).fetchall()
    assert len(dropped) == 1


def test_a_former_active_is_rewound_also_where_everybody_lost_a_right(
    running: RunningLab, writer: Writer
) -> None:
    """Copying again would take minutes: the cluster's role has its own grant."""
    running.repair("rewinding")
    as_superuser(running, "revoke connect on database postgres from public")
    old = running.name_of("ACTIVE")
    running.until(lambda: len(writer.acknowledged) > 0)
    running.vcha("lab", "kill", "active")
    wait_for_successor(running, old)
    before = logged(running, old, "supervisor"), logged(running, old, "patroni")
    running.vcha("lab", "up")
    running.until(running.healthy)
    assert running.name_of("PASSIVE") == old
    supervisor, patroni = logged(running, old, "supervisor"), logged(running, old, "patroni")
    assert "pg_rewind exit code=0" in patroni.removeprefix(before[1])
    assert "base backup done" not in supervisor.removeprefix(before[0])
    assert writer.missing() == set()


def logged(running: RunningLab, name: str, part: str) -> str:
    """Return the log of a part of a node."""
    return (running.layout(name).logs / f"{part}.jsonl").read_text()


def test_a_cluster_that_is_read_only_by_default_is_undeployed(running: RunningLab) -> None:
    """The last step of an undeploy writes."""
    running.until(running.healthy)
    as_superuser(
        running, "alter system set default_transaction_read_only = on", "select pg_reload_conf()"
    )
    task = running.admin.call("POST", UNDEPLOY, {"force_delete": True}, 202)
    assert running.admin.finished(task)["status"] == "SUCCEEDED"
