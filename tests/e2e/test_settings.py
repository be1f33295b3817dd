"""What people do to their own PostgreSQL, and what the cluster makes of it."""

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
from tests.e2e.conftest import RunningLab
from tests.e2e.test_failover import superuser, there
from tests.e2e.writer import Writer

pytestmark = pytest.mark.engines
FAILOVER = "/vcenter/vcha/cluster?action=failover&vmw-task=true"
ENDED = "57P01"
"""admin_shutdown: PostgreSQL's own cancel at 30 s would be another one."""


@contextlib.contextmanager
def reader_in_the_way(running: RunningLab, table: str) -> Iterator[psycopg.Connection]:
    """A long read on the passive, which a change of the table on the active runs into."""
    with superuser(running, "ACTIVE") as active, superuser(running, "PASSIVE") as passive:
        active.execute(f"create table {table} ()".encode())
        running.until(lambda: there(passive, table))
        passive.execute("begin")
        passive.execute(f"select count(*) from {table}".encode())
        active.execute(f"alter table {table} add column n text".encode())
        yield passive


def test_planned_a_reader_on_the_passive_is_waited_for(running: RunningLab, writer: Writer) -> None:
    """The task names the session; the old active goes on until nothing is held up any more."""
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
    """Before PostgreSQL itself would: clients wait for no reader."""
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
    info = running.admin.patiently(task)
    return str(info.get("progress", {}).get("message", {}).get("default_message", ""))
