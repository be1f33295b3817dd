"""Which processes belong to a node, according to /proc."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.node_files import identity
from tests.support.waiting import until

from openvcha.node.etcd.member import etcd_argv
from openvcha.node.layout import Layout
from openvcha.node.patroni.config import patroni_argv
from openvcha.node.process.process_tree import (
    NodeProcesses,
    Process,
    ancestors,
    find_tree,
    is_alive,
    kill_tree,
    members,
    names_node,
    node_run,
    node_uid,
    read_process,
    read_table,
    send,
)
from openvcha.node.process.status import NodeStatus, load_status, save_status
from openvcha.node.supervisor.plan import api_parts, reaper_part, service_part

LATEST = 30.0
HERE = Path("/srv/node-a")
ELSEWHERE = Path("/srv/node-ab")
LAYOUT = Layout(HERE)

OWN = [
    (sys.executable, "-m", "openvcha", "node", "run", "/srv/node-a"),
    (sys.executable, "-m", "openvcha", "node", "bootstrap", "/srv/node-a"),
    (sys.executable, "-X", "dev", "-m", "openvcha", "node", "run", "--no-service", "/srv/node-a"),
    ("/usr/bin/python3", "/usr/local/bin/vcha", "node", "run", "/srv/node-a"),
    service_part(LAYOUT, {}).argv,
    service_part(LAYOUT, {}, 2).argv,
    *(part.argv for part in api_parts(LAYOUT, {})),
    *(part.argv for part in api_parts(LAYOUT, {}, 2)),
    tuple(etcd_argv(Path("/usr/bin/etcd"), identity("a"), LAYOUT)),
    tuple(patroni_argv(LAYOUT)),
    reaper_part(LAYOUT, 4711, {}).argv,
    ("/usr/lib/postgresql/15/bin/postgres", "-D", "/srv/node-a/pgdata", "--port=5432"),
    ("/usr/lib/postgresql/15/bin/postgres", "--single", "-D", "/srv/node-a/pgdata"),
    ("/usr/bin/pg_basebackup", "--pgdata=/srv/node-a/pgdata.copying"),
    ("/usr/bin/pg_rewind", "--target-pgdata=/srv/node-a/pgdata"),
]
FOREIGN: list[tuple[str, ...]] = [
    (),
    ("/usr/bin/tail", "-f", "/srv/node-a/logs/etcd.jsonl"),
    ("/usr/bin/vim", "/srv/node-a/patroni.yml"),
    ("/usr/bin/sudo", "python3", "-m", "openvcha", "node", "run", "/srv/node-a"),
    ("/usr/bin/timeout", "60", "vcha", "node", "run", "/srv/node-a"),
    (sys.executable, "-m", "openvcha", "node", "status", "/srv/node-a"),
    (sys.executable, "-m", "openvcha", "node", "run", "/srv/node-ab"),
    ("/usr/bin/postgres", "-D", "/srv/node-ab/pgdata"),
    ("/usr/bin/etcd", "--data-dir=/srv/node-ab/etcd"),
]


@pytest.mark.parametrize("argv", OWN)
def test_a_nodes_own_programs_are_known(argv: tuple[str, ...]) -> None:
    """Every program of a node is recognized by its command line alone."""
    assert names_node(argv, HERE)


@pytest.mark.parametrize("argv", FOREIGN)
def test_others_are_left_alone(argv: tuple[str, ...]) -> None:
    """Other nodes, wrappers and shells in the directory are not part of it."""
    assert not names_node(argv, HERE)


def test_descendants_belong_but_not_other_nodes() -> None:
    """Its programs' children belong to it; another node started from it does not."""
    table = {
        1: Process(1, 0, 1, ("init",)),
        2: Process(2, 1, 2, service_part(LAYOUT, {}).argv),
        3: Process(3, 2, 3, ("sh",)),
        4: Process(4, 3, 4, ("sleep",)),
        5: Process(5, 2, 5, service_part(Layout(ELSEWHERE), {}).argv),
        6: Process(6, 5, 6, ("sleep",)),
        7: Process(7, 1, 7, ("sleep",)),
    }
    assert sorted(process.pid for process in members(table, HERE)) == [2, 3, 4]
    assert sorted(process.pid for process in members(table, ELSEWHERE)) == [5, 6]


def test_the_caller_and_its_ancestors_are_spared() -> None:
    """A caller that ends a node's left-overs does not end itself or its ancestors."""
    run = OWN[0]
    table = {1: Process(1, 0, 1, ()), 2: Process(2, 1, 2, run), 3: Process(3, 2, 3, run)}
    spared = ancestors(table, 3)
    assert spared == {1, 2, 3}
    assert members(table, HERE, spared=spared) == []


def test_a_recorded_process_counts_only_with_its_start_time() -> None:
    """A process that has reused the id is not taken for the supervisor."""
    table = {5: Process(5, 1, 50, ("python3",))}
    assert members(table, HERE, also=Process(5, 0, 50, ()))
    assert not members(table, HERE, also=Process(5, 0, 49, ()))


def test_signals_reach_only_the_very_process() -> None:
    """A process with the same id but another start time is not signalled."""
    with subprocess.Popen(["/bin/sleep", "60"]) as sleeper:
        found = read_process(sleeper.pid)
        assert found
        other = Process(found.pid, found.parent, found.started - 1, found.argv)
        assert not send(other, signal.SIGKILL)
        assert is_alive(found)
        assert send(found, signal.SIGKILL)
        until(lambda: not is_alive(found), 30)  # it has ended, but is not reaped yet
        assert sleeper.wait() == -signal.SIGKILL
    assert not is_alive(found)
    assert not send(found, signal.SIGKILL)


def test_the_process_table_has_us() -> None:
    """The running test is in the table with its command line and its parent."""
    own = read_table()[os.getpid()]
    assert own.parent == os.getppid()
    assert own.argv


def process_of(directory: Path, pid: int, uid: int | None) -> Process:
    return Process(pid, 1, 0, ("python3", "-m", "openvcha", "node", "run", str(directory)), uid)


@pytest.mark.parametrize("uid", [None, os.geteuid() + 1])
def test_processes_of_other_accounts_do_not_belong(tmp_path: Path, uid: int | None) -> None:
    """Neither what names the node, nor a descendant, nor what the node's own status names."""
    own = os.geteuid()
    status = NodeStatus(member="a", kind="data", pid=15, started=0)
    save_status_in(tmp_path, status)
    table = {
        11: process_of(tmp_path, 11, own),
        12: Process(12, 11, 0, ("sleep",), uid),
        13: process_of(tmp_path, 13, uid),
        14: Process(14, 13, 0, ("sleep",), uid),
        15: Process(15, 1, 0, ("sleep",), uid),
    }
    assert [process.pid for process in find_tree(tmp_path, table)] == [11]


def save_status_in(directory: Path, status: NodeStatus) -> None:
    Layout(directory).run.mkdir()
    save_status(directory, status)


def test_a_status_that_would_block_is_none(tmp_path: Path) -> None:
    """The node's account may replace it, and root searches for the node's processes."""
    Layout(tmp_path).run.mkdir()
    os.mkfifo(Layout(tmp_path).status)
    assert load_status(tmp_path) is None
    assert find_tree(tmp_path) == []


def test_root_acts_on_the_processes_of_the_owner(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Everyone else acts on its own; a directory that is gone has the owner of its parent."""
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert node_uid(tmp_path) == node_uid(tmp_path / "gone" / "node") == owner
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert node_uid(tmp_path) == owner + 1


def test_a_denied_signal_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no error: the others must still get theirs."""

    def deny(*_: object) -> None:
        raise PermissionError

    own = read_process(os.getpid())
    assert own
    monkeypatch.setattr(signal, "pidfd_send_signal", deny)
    assert not send(own, signal.SIGTERM)


def test_hidden_processes_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc may be mounted so that it hides the files of other accounts' processes."""

    def deny(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("openvcha.node.process.process_tree.read_stat", deny)
    assert read_table() == {}


def test_what_was_frozen_is_killed_even_if_the_search_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A frozen PostgreSQL would block everything that waits for it."""
    argv = ["postgres", "-c", "read _", "-D", str(tmp_path / "pgdata")]
    read = iter([read_table])

    def fail() -> dict[int, Process]:
        for each in read:
            return each()
        raise OSError(errno.EMFILE, "too many open files")

    with subprocess.Popen(argv, executable="/bin/sh", stdin=subprocess.PIPE) as frozen:
        monkeypatch.setattr("openvcha.node.process.process_tree.read_table", fail)
        with pytest.raises(OSError, match="too many open files"):
            kill_tree(tmp_path)
        assert frozen.wait(LATEST) == -signal.SIGKILL


def test_one_walk_finds_the_processes_of_several_nodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each gets its own, in the order given, and /proc is read once."""
    directories = [tmp_path / "one", tmp_path / "two", tmp_path / "none"]
    table = {
        pid: process_of(directory, pid, os.geteuid())
        for pid, directory in ((11, directories[0]), (12, directories[1]))
    }
    table[13] = Process(13, 12, 0, ("sleep",), os.geteuid())
    walks: list[object] = []

    def read() -> dict[int, Process]:
        walks.append(None)
        return table

    monkeypatch.setattr("openvcha.node.process.process_tree.read_table", read)
    assert NodeProcesses().find_each(directories) == [[11], [12, 13], []]
    assert len(walks) == 1


async def test_kill_ends_a_tree_that_forks(tmp_path: Path) -> None:
    """The whole tree is killed, including processes it starts meanwhile; then nothing is found."""
    fork = f"while true; do sleep 60 & sleep 0.001; done # {tmp_path}"
    argv = ["postgres", "-c", fork, "-D", str(tmp_path / "pgdata")]
    with subprocess.Popen(argv, executable="/bin/sh") as forking:  # noqa: ASYNC220 - it only forks
        while len(NodeProcesses().find(tmp_path)) < 5:
            assert forking.poll() is None
        await NodeProcesses().kill(tmp_path)
        assert forking.wait() == -signal.SIGKILL
    assert NodeProcesses().find(tmp_path) == []


def test_a_relative_directory_is_resolved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The directory in a command line is compared by its real path."""
    monkeypatch.chdir(tmp_path)
    assert node_run(("python3", "-m", "openvcha", "node", "run", "./x")) == tmp_path / "x"
