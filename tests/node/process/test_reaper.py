"""When the supervisor has died the node is stopped: in order at first, soon in any case."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.nodes import until

from openvcha.node.layout import Layout
from openvcha.node.process.gate import GO
from openvcha.node.process.process_tree import Process, find_tree, kill_tree, read_process
from openvcha.node.process.reaper import (
    GRACEFUL_SECONDS,
    PAUSE_SECONDS,
    Reaper,
    is_supervisor,
    signals_for,
)
from openvcha.node.process.supervisor_watch import BEAT, CHECKS, DISMISS, ThreadActivity
from openvcha.node.supervisor.plan import reaper_part

DIRECTORY = Path("/srv/node")
LAYOUT = Layout(DIRECTORY)
PYTHON = "/usr/bin/python3"
SUPERVISOR = Process(2, 1, 1, (PYTHON, "-m", "openvcha", "node", "run", "/srv/node"))
SERVICE = Process(3, 1, 1, (PYTHON, "-m", "openvcha", "node", "service", "/srv/node"))
PATRONI = Process(
    4, 1, 1, (PYTHON, "-m", "openvcha.node.patroni.launcher", "/srv/node/patroni.yml")
)
POSTMASTER = Process(5, 1, 1, ("/usr/bin/postgres", "-D", "/srv/node/pgdata"))
BACKEND = Process(6, 5, 1, ("postgres: lab: app app 127.0.0.1(4711) idle",))
ETCD = Process(7, 1, 1, ("/usr/bin/etcd", "--data-dir=/srv/node/etcd"))
COPY = Process(8, 1, 1, ("/usr/bin/pg_basebackup", "--pgdata=/srv/node/pgdata.copying"))
MOST_KIB = 6 << 10
TERM, INT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGKILL


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ([SERVICE, PATRONI, POSTMASTER, BACKEND, ETCD], {SERVICE: TERM, PATRONI: TERM}),
        ([POSTMASTER, BACKEND, ETCD], {POSTMASTER: INT}),
        ([BACKEND, ETCD], {}),
        ([COPY, ETCD], {COPY: TERM}),
        ([ETCD], {ETCD: TERM}),
        ([SUPERVISOR, ETCD], {ETCD: TERM}),
        ([], {}),
    ],
    ids=["data node", "no Patroni", "backends", "copy", "witness", "next supervisor", "nothing"],
)
def test_patroni_goes_before_what_it_needs(
    left: list[Process], told: dict[Process, signal.Signals]
) -> None:
    """It stops PostgreSQL and releases the leader key; a backend ends with its postmaster."""
    assert dict(signals_for(left)) == told


@pytest.mark.parametrize("name", ["service", "run", "node"])
def test_a_directory_may_have_any_name(name: str) -> None:
    """A supervisor is recognized by its command, not by a word anywhere in it."""
    for verb in ("run", "bootstrap"):
        assert is_supervisor(Process(2, 1, 1, (PYTHON, "-m", "openvcha", "node", verb, name)))
    service = (PYTHON, "-m", "openvcha", "node", "service", f"/srv/{name}")
    assert not is_supervisor(Process(3, 1, 1, service))


class Machine:
    """Processes that exit when told to; the frozen ones do not react."""

    def __init__(self, directory: Path, *frozen: str) -> None:
        self.now = 0.0
        self.frozen = frozen
        self.directory = directory
        self.told: list[tuple[str, signal.Signals]] = []
        self.killed: list[float] = []
        self.living = {
            name: subprocess.Popen(["/bin/sleep", "600"])
            for name in ("etcd", "postgres", "patroni")
        }

    def find(self, _: Path) -> list[Process]:
        argvs = {"etcd": ETCD.argv, "postgres": POSTMASTER.argv, "patroni": PATRONI.argv}
        found = []
        for name, program in self.living.items():
            if (read := read_process(program.pid)) is not None:
                found.append(Process(read.pid, 1, read.started, argvs[name]))
        return found

    def tell(self, process: Process, number: signal.Signals) -> None:
        name = next(name for name, each in self.living.items() if each.pid == process.pid)
        self.told.append((name, number))
        if name not in self.frozen or number is KILL:
            self.end(name)
            if name == "patroni" and "postgres" not in self.frozen:
                self.end("postgres")

    def end(self, name: str) -> None:
        self.living[name].kill()
        self.living[name].wait()

    def kill(self, _: Path, *, which: Callable[[Process], bool]) -> None:
        assert which(ETCD)
        assert not which(SUPERVISOR)
        self.killed.append(self.now)
        for name in self.living:
            self.end(name)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def reaper(self, supervisor: int = 2) -> Reaper:
        seams: dict[str, Any] = {"clock": lambda: self.now, "sleep": self.sleep}
        return Reaper(
            self.directory, supervisor, find=self.find, tell=self.tell, kill=self.kill, **seams
        )


@pytest.fixture
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    made = Machine(tmp_path, *getattr(request, "param", ()))
    yield made
    for name in made.living:
        made.end(name)


def test_what_listens_ends_in_order(machine: Machine) -> None:
    """The store goes last, and no process is killed."""
    assert machine.reaper().end() == []
    assert machine.told == [("patroni", TERM), ("etcd", TERM)]
    assert machine.killed == []


@pytest.mark.parametrize("machine", [("patroni",), ("postgres",)], indirect=True)
def test_what_does_not_listen_is_killed_before_another_leads(machine: Machine) -> None:
    """Each is told once; etcd stays until then, and all exit."""
    left = {process.argv for process in machine.reaper().end()}
    assert POSTMASTER.argv in left
    assert len(set(machine.told)) == len(machine.told)
    assert len(machine.killed) == 1
    assert GRACEFUL_SECONDS <= machine.killed[0] <= GRACEFUL_SECONDS + PAUSE_SECONDS
    assert machine.find(machine.directory) == []


def test_the_next_supervisor_is_left_alone(machine: Machine) -> None:
    """It stopped what was left before it started anything; what runs now is its own."""
    pid_file = Layout(machine.directory).supervisor_pid
    pid_file.parent.mkdir(parents=True)
    pid_file.write_text(str(os.getpid()))
    machine.reaper(supervisor=2).end()
    assert machine.told == []
    machine.reaper(supervisor=os.getpid()).end()
    assert machine.find(machine.directory) == []


@pytest.fixture
def started(tmp_path: Path) -> Any:
    """Start a real reaper of a node that runs only a sleeping etcd; yield both and the pipe."""
    layout = Layout(tmp_path)
    layout.make_directories()
    argv = ["etcd", f"--data-dir={layout.etcd_data}"]
    code = "import time; print(flush=True); time.sleep(600)"
    etcd = subprocess.Popen(
        ["/bin/sh", "-c", f'exec -a etcd "{sys.executable}" -c "{code}" {argv[1]}'],
        stdout=subprocess.PIPE,
        executable="/bin/bash",
    )
    assert etcd.stdout
    etcd.stdout.readline()
    reaper = subprocess.Popen(
        reaper_part(layout, os.getpid(), os.environ).argv, stdin=subprocess.PIPE, cwd="/"
    )
    yield etcd, reaper, layout
    for process in (etcd, reaper):
        process.kill()
        process.wait()
    etcd.stdout.close()
    assert reaper.stdin
    reaper.stdin.close()


def test_the_end_of_the_pipe_is_the_end_of_the_node(started: Any) -> None:
    """Even when a service manager signals all processes at once."""
    etcd, reaper, layout = started
    until_it_waits(reaper.pid)
    reaper.send_signal(TERM)
    reaper.stdin.close()
    assert reaper.wait(60) == 0
    assert etcd.wait(60) == -TERM
    assert "the supervisor died" in (layout.logs / "reaper.jsonl").read_text()


def test_it_costs_little_until_then(started: Any) -> None:
    """A bare interpreter: each node has one, a witness too."""
    _, reaper, layout = started
    until_it_waits(reaper.pid)
    rollup = Path(f"/proc/{reaper.pid}/smaps_rollup").read_text()
    found = re.search(r"^Anonymous:\s+(\d+) kB", rollup, re.MULTILINE)
    assert found
    assert int(found[1]) < MOST_KIB
    assert "msgspec" not in Path(f"/proc/{reaper.pid}/maps").read_text()
    assert {each.pid for each in find_tree(layout.root)} == {each.pid for each in started[:2]}


def test_a_dismissed_one_ends_nothing(started: Any) -> None:
    """A supervisor that exits in order has stopped everything before, and may start again."""
    etcd, reaper, _ = started
    reaper.stdin.write(b"g")
    reaper.stdin.close()
    assert reaper.wait(60) == 0
    assert etcd.poll() is None


STOPPED = ("T", 7)


@pytest.mark.parametrize("sight", [STOPPED, ("S", 7), ("D", 7)], ids=lambda sight: sight[0])
def test_who_is_silent_and_still_hangs(sight: tuple[str, int]) -> None:
    """Whether stopped, or waiting for something, or for a disk; not before the last check."""
    silence = ThreadActivity()
    assert [silence.hangs(sight) for _ in range(CHECKS + 1)] == [False] * CHECKS + [True]


@pytest.mark.parametrize(
    "sights",
    [
        [("R", 7)] * 100,
        [("S", number) for number in range(100)],
        [None] * 100,
        ([STOPPED] * CHECKS + [None]) * 10,
    ],
    ids=["waits for a processor", "runs now and then", "unknown", "gaps"],
)
def test_who_is_silent_on_a_busy_machine_does_not_hang(
    sights: list[tuple[str, int] | None],
) -> None:
    """It would go on if it could."""
    silence = ThreadActivity()
    assert not any(silence.hangs(sight) for sight in sights)


def test_the_word_is_that_of_the_gate() -> None:
    """The reaper cannot import the constant; a heartbeat is a different word."""
    assert DISMISS == GO
    assert BEAT != GO


CHECK_SECONDS = 0.2
"""Six checks in a row: a slow disk must not hold up a log for as long as that."""
KEEPER = """
import asyncio, os, sys
from pathlib import Path
from openvcha.node.layout import Layout
from openvcha.node.process.logs import RotatingLog, logger
from openvcha.node.process.managed_process import Part, PartSpec
from openvcha.node.supervisor.plan import reaper_part

async def main():
    layout = Layout(Path(sys.argv[1]))
    log = RotatingLog(layout.logs / "supervisor.jsonl")
    reaper = reaper_part(layout, os.getpid(), os.environ, check_seconds=float(sys.argv[2]))
    etcd = PartSpec("etcd", tuple(sys.argv[3:]), os.environ)
    for spec in reaper, etcd:
        Part(spec, log, logger(log, "test"), lambda: None).begin()
    await asyncio.Event().wait()

asyncio.run(main())
"""
WRITER = """
import os, sys, time
from pathlib import Path
done = Path(sys.argv[1])
for number in range(1 << 60):
    print("x" * 4000, flush=True)
    done.write_text(str(number))
    time.sleep(0.01)
"""


@pytest.fixture
def hanging(tmp_path: Path) -> Any:
    """Return a supervisor whose store logs a line before each write, and the number of writes."""
    layout = Layout(tmp_path)
    layout.make_directories()
    count = tmp_path / "count"
    engine = ("exec", "-a", "etcd", sys.executable, "-c", WRITER, str(count))
    argv = shlex.join([*engine, f"--data-dir={layout.etcd_data}"])
    keeper = (sys.executable, "-c", KEEPER, tmp_path, str(CHECK_SECONDS))
    supervisor = subprocess.Popen([*keeper, "/bin/bash", "-c", argv])
    yield supervisor, count, layout
    supervisor.kill()
    supervisor.wait()
    kill_tree(tmp_path)


def written(count: Path) -> int:
    return int(count.read_text() or 0) if count.exists() else 0


def test_a_supervisor_that_hangs_is_the_end_of_the_node(hanging: Any) -> None:
    """Its parts would block as soon as their logs are not read, and so would all commits."""
    supervisor, count, layout = hanging
    until(lambda: written(count) > 20)
    supervisor.send_signal(signal.SIGSTOP)
    until(lambda: find_tree(layout.root) == [])
    assert supervisor.wait(60) == -KILL
    assert "the supervisor hangs" in (layout.logs / "reaper.jsonl").read_text()


def test_a_supervisor_that_goes_on_is_left_alone(hanging: Any) -> None:
    """Its heartbeats are rarer than the checks here, and it is not idle meanwhile."""
    supervisor, count, layout = hanging
    ends = time.monotonic() + 30 * CHECK_SECONDS
    # How much it writes meanwhile depends on how busy the machine is.
    until(lambda: written(count) > 50 and time.monotonic() > ends)
    assert supervisor.poll() is None
    assert not (layout.logs / "reaper.jsonl").exists()


def until_it_waits(pid: int) -> None:
    """Wait until it ignores signals, which it does before anything else."""
    deadline = time.monotonic() + 60
    while not int(_ignored(pid), 16) & 1 << (TERM - 1):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _ignored(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("SigIgn:"))
