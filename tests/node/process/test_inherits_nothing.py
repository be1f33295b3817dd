"""What etcd, Patroni and PostgreSQL inherit when the node's parent leaves it bad defaults."""

import contextlib
import os
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openvcha.node.process.process_tree import (
    REAPER,
    find_tree,
    is_postgres,
    names_node,
    node_run,
    program,
)
from openvcha.system.proc import read_stat

pytestmark = pytest.mark.engines

# Only the parent can have set these: no engine ignores or blocks them by itself.
SURE_SECONDS = 60.0
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGWINCH, signal.SIGRTMIN + 5)
LEFT = {
    "OPENVCHA_JOIN": "secret",
    "OPENVCHA_WORD": "secret",
    "PYTHONPATH": "/nonexistent",
    "PYTHONWARNINGS": "error",
    "PGPASSWORD": "secret",
    "PGOPTIONS": "-c work_mem=1GB",
    "PATRONI_NAME": "other",
    "ETCD_NAME": "other",
    "GODEBUG": "madvdontneed=1",
    "LD_LIBRARY_PATH": "/nonexistent",
    "https_proxy": "http://127.0.0.1:1",
    "NOTIFY_SOCKET": "/run/nonexistent",
    "TZ": "Pacific/Apia",
    "AWS_SECRET_ACCESS_KEY": "secret",
}
MAY_HAVE = {"PATH", "HOME", "LC_ALL"}
#: What the programs set for themselves and their children.
OWN = {"PGDATA", "PGLOCALEDIR", "PGSYSCONFDIR", "PG_GRANDPARENT_PID", "LC_MESSAGES"}
ENGINES = ("etcd", "patroni", "postgres", "backend")


def leave() -> None:
    """Set bad defaults, as a parent would between fork and exec."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


@pytest.fixture(scope="module")
def node(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield a node whose parent left it files, a listener, signals, a umask and an environment."""
    node = lab.node("heir", 11, {"heir": 11})
    place = tmp_path_factory.mktemp("place")
    with socket.socket() as listener, (place / "left").open("w") as file:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        node.start(
            env={**os.environ, **LEFT, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            cwd=place,
            umask=0,
            pass_fds=(listener.fileno(), file.fileno()),
            preexec_fn=leave,
        )
    lab.until(node.writable)
    node.place = place
    yield node
    node.stop()


@pytest.fixture(scope="module")
def pids(node: Any) -> Iterator[dict[str, int]]:
    """Return the process of each engine, and a PostgreSQL backend."""
    with node.connect() as connection:
        found: dict[str, int] = {}
        for process in find_tree(node.directory):
            name = program(process.argv)
            if REAPER in process.argv:
                continue  # a program of ours
            if names_node(process.argv, node.directory) and not node_run(process.argv):
                found["patroni" if name.startswith("python") else name] = process.pid
        row = connection.execute("select pg_backend_pid()").fetchone()
        assert row
        # The process id is the same: a user namespace is not a PID namespace.
        yield found | {"backend": row[0]}


def status(pid: int, field: str) -> str:
    return field_of(Path(f"/proc/{pid}/status"), field)


def field_of(path: Path, field: str) -> str:
    text = path.read_text()
    found = re.search(rf"^{field}:\s*(\S+)", text, re.MULTILINE)
    assert found, field
    return found[1]


def session(pid: int) -> tuple[int, int]:
    """Return the process group and the session."""
    stat = read_stat(pid)
    assert stat
    return stat.group, stat.session


def open_files(pid: int) -> dict[int, str]:
    """Return the open descriptors; a program closes and opens connections meanwhile."""
    found = {}
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[int(fd.name)] = str(fd.readlink())
    return found


def supervisor(node: Any) -> int:
    return int(node.layout.supervisor_pid.read_text())


@pytest.mark.parametrize("engine", ENGINES)
def test_it_reads_nothing(pids: dict[str, int], engine: str) -> None:
    """Standard input is /dev/null: a reader gets the end of file at once."""
    assert open_files(pids[engine])[0] == os.devnull


@pytest.mark.parametrize("engine", ENGINES)
def test_it_holds_no_descriptor_of_ours(node: Any, pids: dict[str, int], engine: str) -> None:
    """It has only the supervisor's pipe for its own output; nothing of the parent's."""
    ours = open_files(supervisor(node))
    pipes = {f for f in ours.values() if f.startswith(("pipe:", "socket:", "anon_inode:"))}
    ours_by_name = {f for f in ours.values() if f.startswith("/") and f != os.devnull}
    theirs = open_files(pids[engine])
    beyond = {file for fd, file in theirs.items() if fd > 2}
    # An anonymous inode has the same name everywhere: it identifies no owner.
    shared = (beyond & (pipes | ours_by_name)) - {f for f in beyond if f.startswith("anon_inode:")}
    assert shared == set()
    assert not [file for file in theirs.values() if file.startswith(str(node.place))]


# A backend inherits its postmaster's; its own in /proc is overwritten by its title.
@pytest.mark.parametrize("engine", ["etcd", "patroni", "postgres"])
def test_its_environment_is_made_for_it(node: Any, pids: dict[str, int], engine: str) -> None:
    """It has a search path, a home of the node's own and a locale."""
    words = Path(f"/proc/{pids[engine]}/environ").read_bytes().rstrip(b"\0").split(b"\0")
    found = dict(word.decode().split("=", 1) for word in words if b"=" in word)
    assert set(found) <= MAY_HAVE | (OWN if engine == "postgres" else set())
    assert found["HOME"] == str(node.directory)
    assert not set(LEFT.values()) & set(found.values())


def inherited(pid: int, field: str) -> list[int]:
    """Return those of the parent's signals that a process blocks or ignores now.

    An inherited mask is blocked in each thread. Go keeps one thread, maybe the first, that blocks
    all but the signals that the program handles.
    """
    mask = -1
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it may have exited
            mask &= int(field_of(thread / "status", field), 16)
    return [number for number in SIGNALS if mask & 1 << (number - 1)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("field", ["SigBlk", "SigIgn"])
def test_its_signals_are_its_own(pids: dict[str, int], engine: str, field: str) -> None:
    """Signals that the parent blocked or ignored are neither.

    What is inherited stays. An engine may block all signals for a moment, as Go does while it
    creates a thread, and one read may hit that moment.
    """
    deadline = time.monotonic() + SURE_SECONDS
    while found := inherited(pids[engine], field):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_it_makes_is_for_its_account_alone(pids: dict[str, int], engine: str) -> None:
    """The umask is strict, and no core dump with passwords is written."""
    assert status(pids[engine], "Umask") == "0077"
    limits = Path(f"/proc/{pids[engine]}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4] == "0"


@pytest.mark.parametrize("engine", ENGINES)
def test_it_leads_a_session_of_its_own(node: Any, pids: dict[str, int], engine: str) -> None:
    """A terminal's signals reach neither it nor its children."""
    own = session(pids[engine])
    assert own[0] not in {session(supervisor(node))[0], os.getpgid(0)}
    assert own[1] not in {session(supervisor(node))[1], os.getsid(0)}
    assert len({session(pid)[1] for pid in pids.values()}) == len(pids)


@pytest.mark.parametrize("engine", ENGINES)
def test_it_works_in_a_place_of_its_own(node: Any, pids: dict[str, int], engine: str) -> None:
    """The file system of the parent's working directory can be unmounted."""
    place = str(Path(f"/proc/{pids[engine]}/cwd").readlink())
    assert place in {"/", str(node.layout.pgdata)}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", ["oom_score_adj", "nice"])
def test_what_the_service_manager_decides_stays(
    node: Any, pids: dict[str, int], engine: str, what: str
) -> None:
    """A unit's OOMScoreAdjust= and Nice= apply to the whole node."""

    def value(pid: int) -> str:
        if what == "nice":
            return str(os.getpriority(os.PRIO_PROCESS, pid))
        return Path(f"/proc/{pid}/{what}").read_text()

    assert value(pids[engine]) == value(supervisor(node))


def test_all_engines_were_looked_at(pids: dict[str, int]) -> None:
    """Otherwise the tests above would have checked nothing."""
    assert set(pids) == set(ENGINES)
    assert len(set(pids.values())) == len(ENGINES)


def test_a_backend_that_computes_does_not_outlive_its_postmaster(lab: Any, node: Any) -> None:
    """It would not notice until its query ends; PostgreSQL restarts all the same."""
    with contextlib.closing(node.connect()) as connection:
        row = connection.execute("select pg_backend_pid()").fetchone()
        assert row
        connection.pgconn.send_query(b"select count(*) from generate_series(1, 1000000000000)")
        lab.until(lambda: "SELECT" in _title(row[0]))
        pid_file = node.layout.pgdata / "postmaster.pid"
        postmaster = int(pid_file.read_text().splitlines()[0])
        assert is_postgres(tuple(_title(postmaster).split("\0")))
        os.kill(postmaster, signal.SIGKILL)
        lab.until(node.writable)
        assert not Path(f"/proc/{row[0]}").exists()
    assert "ending backends that outlived their postmaster" in node.log("supervisor")


def _title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()
