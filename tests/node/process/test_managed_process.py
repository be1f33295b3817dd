"""A part is kept running, with pauses, and stopped on request."""

import asyncio
import dataclasses
import fcntl
import os
import signal
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from openvcha.node.background.context import Control
from openvcha.node.process.backoff import Backoff
from openvcha.node.process.gate import GO
from openvcha.node.process.logs import RotatingLog, logger
from openvcha.node.process.managed_process import Part, PartSpec, stop_all
from openvcha.node.process.spawn import (
    PIPE_BYTES,
    OnLine,
    Running,
    describe_exit,
    engine_environment,
    launch,
    program_environment,
)
from openvcha.node.process.status import PartState
from openvcha.node.process.supervisor_watch import BEAT


class Program:
    """A program that runs until it is told how to exit."""

    def __init__(self, deaf: bool = False) -> None:
        self.pid = 4711
        self.deaf = deaf
        self.signals: list[signal.Signals] = []
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await self.code

    def send(self, number: signal.Signals) -> None:
        self.signals.append(number)
        if not self.code.done() and not (self.deaf and number is signal.SIGTERM):
            self.code.set_result(-number)


class PartHarness:
    """Provides a part's programs, clock and sleep."""

    def __init__(self, directory: Path, spec: PartSpec, runs: Sequence[float] = ()) -> None:
        self.now = 0.0
        self.changes = asyncio.Event()
        self.runs = list(runs)
        self.pauses: list[float] = []
        self.started: list[Program] = []
        self.words: list[bytes] = []
        self.deaf = False
        self.faults: list[Exception] = []
        self.log = RotatingLog(directory / "log")
        self.part = Part(
            spec,
            self.log,
            logger(self.log, "test"),
            self.changes.set,
            start=self.start,
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    async def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        on_line: OnLine,
        stdin: int = -1,
    ) -> Running:
        del argv, environment, on_line
        if self.faults:
            raise self.faults.pop()
        program = Program(self.deaf)
        self.started.append(program)
        self.given = stdin
        self.stdin = os.dup(stdin) if stdin >= 0 else stdin
        if self.runs:
            self.now += self.runs.pop(0)
            program.code.set_result(1)
        return program

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changes.clear()
            await self.changes.wait()

    async def sleep(self, pause: float) -> None:
        self.pauses.append(pause)
        await asyncio.sleep(0)


SPEC = PartSpec("part", ("/bin/true",), {}, stop_seconds=0.05)


async def settled(harness: PartHarness, starts: int) -> None:
    """Wait until the part has started its program this often."""
    await harness.until(
        lambda: len(harness.started) >= starts and harness.part.status.pid is not None
    )


async def test_the_pause_doubles_and_is_forgotten_after_a_calm_run(tmp_path: Path) -> None:
    """Programs that exit soon are restarted with growing pauses, until one has run for long."""
    harness = PartHarness(tmp_path, SPEC, runs=[0, 1, 0, 31, 0])
    harness.part.begin()
    await settled(harness, 6)
    assert harness.pauses == [0.2, 0.4, 0.8, 0.2, 0.4]
    assert harness.part.status.restarts == 5
    assert harness.part.status.last_exit == "exit code 1"
    await harness.part.stop()


def test_the_pause_has_a_limit() -> None:
    """However often it fails, the pause never exceeds the limit."""
    backoff = Backoff(first=1, longest=10)
    assert [backoff.pause(0) for _ in range(100)][-1] == 10


async def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """Stopping ends with SIGKILL at the deadline at the latest, and nothing is restarted."""
    harness = PartHarness(tmp_path, SPEC)
    harness.deaf = True
    harness.part.begin()
    await settled(harness, 1)
    await harness.part.stop()
    assert harness.started[0].signals == [signal.SIGTERM, signal.SIGKILL]
    assert harness.part.status.state is PartState.STOPPED
    assert len(harness.started) == 1


async def test_parts_of_a_group_stop_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline of one is that of all; parts before them stop after them."""
    sent: list[tuple[str, signal.Signals]] = []

    def watch(name: str, program: Program) -> None:
        send = program.send

        def note(number: signal.Signals) -> None:
            sent.append((name, number))
            send(number)

        monkeypatch.setattr(program, "send", note)

    parts = []
    for name, group in (("service", ""), ("api-1", "api"), ("api-2", "api")):
        (tmp_path / name).mkdir()
        harness = PartHarness(tmp_path / name, dataclasses.replace(SPEC, name=name, group=group))
        harness.deaf = bool(group)
        harness.part.begin()
        await settled(harness, 1)
        watch(name, harness.started[0])
        parts.append(harness.part)
    await stop_all(parts)
    term, kill = signal.SIGTERM, signal.SIGKILL
    assert sent[:2] == [("api-2", term), ("api-1", term)]
    assert sorted(sent[2:4]) == [("api-1", kill), ("api-2", kill)]
    assert sent[4:] == [("service", term)]
    assert [part.status.state for part in parts] == [PartState.STOPPED] * 3


async def test_a_group_is_halted_by_its_name(tmp_path: Path) -> None:
    """Each of its parts, or one of them alone."""
    harnesses = []
    for name in ("api-1", "api-2"):
        (tmp_path / name).mkdir()
        harnesses.append(
            PartHarness(tmp_path / name, dataclasses.replace(SPEC, name=name, group="api"))
        )
        harnesses[-1].part.begin()
        await settled(harnesses[-1], 1)
    unused: Any = None
    control = Control([harness.part for harness in harnesses], unused, unused, unused)
    await control.halt("api-1")
    states = [control.status(name).state for name in ("api-1", "api-2")]
    assert states == [PartState.STOPPED, PartState.RUNNING]
    await control.halt("api")
    assert control.status("api-2").state is PartState.STOPPED
    for harness in harnesses:
        await harness.part.stop()


async def test_a_part_that_never_began_can_be_stopped(tmp_path: Path) -> None:
    """A node that is stopped early has parts that have never run."""
    harness = PartHarness(tmp_path, SPEC)
    await harness.part.stop()
    assert harness.started == []


async def test_a_part_that_was_halted_can_begin_again(tmp_path: Path) -> None:
    """In between nothing runs, and its log stays open."""
    harness = PartHarness(tmp_path, SPEC)
    harness.part.begin()
    await settled(harness, 1)
    await harness.part.halt()
    await asyncio.sleep(0.1)
    assert len(harness.started) == 1
    assert harness.part.status.state is PartState.STOPPED
    harness.part.begin()
    await settled(harness, 2)
    harness.log.write(b"still open")
    await harness.part.stop()
    assert harness.log.lost == 0


async def test_a_gated_part_waits_for_its_word(tmp_path: Path) -> None:
    """It is started at once, but gets its go-ahead only when the gate is opened."""
    harness = PartHarness(tmp_path, PartSpec("part", ("/bin/true",), {}, gated=True))
    harness.part.begin()
    await settled(harness, 1)
    os.set_blocking(harness.stdin, False)
    with pytest.raises(BlockingIOError):
        os.read(harness.stdin, 1)
    assert harness.part.status.state is PartState.WAITING
    harness.part.open_gate()
    await harness.until(lambda: harness.part.status.state is PartState.RUNNING)
    assert os.read(harness.stdin, 9) == GO
    assert os.read(harness.stdin, 9) == b""
    await harness.part.stop()
    os.close(harness.stdin)


async def test_a_part_that_watches_hears_that_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its go-ahead; when it does not read, nothing blocks."""
    monkeypatch.setattr("openvcha.node.process.supervisor_watch.BEAT_SECONDS", 0.0)
    spec = PartSpec("part", ("/bin/true",), {}, gated=True, watches=True)
    harness = PartHarness(tmp_path, spec)
    harness.part.begin()
    await settled(harness, 1)
    fcntl.fcntl(harness.stdin, fcntl.F_SETPIPE_SZ, 4096)
    async with asyncio.timeout(60):
        while _waiting(harness.stdin) < 4096:  # noqa: ASYNC110 - the kernel's count is no Event
            await asyncio.sleep(0)
    assert set(os.read(harness.stdin, 4096)) == set(BEAT)
    harness.part.open_gate()
    await harness.until(lambda: harness.part.status.state is PartState.RUNNING)
    assert os.read(harness.stdin, 4096).endswith(GO)
    await harness.part.stop()
    os.close(harness.stdin)


def _waiting(pipe: int) -> int:
    """Return the number of bytes not read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


async def test_a_program_can_log_for_a_while_though_nobody_reads() -> None:
    """Longer than the reaper needs to notice; then it blocks, with all who wait for it."""
    lines: list[bytes] = []
    code = "import fcntl; print(fcntl.fcntl(1, fcntl.F_GETPIPE_SZ))"
    running = await launch([sys.executable, "-c", code], os.environ, lines.append)
    assert await running.wait() == 0
    assert lines == [b"%d" % PIPE_BYTES]


def open_files() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


async def test_a_fault_of_ours_does_not_lose_a_part(tmp_path: Path) -> None:
    """Whatever fails while a program is started or watched, it is started again."""
    harness = PartHarness(tmp_path, SPEC)
    harness.faults = [RuntimeError("odd"), ValueError("odder")]
    harness.part.begin()
    await settled(harness, 1)
    assert harness.part.status.restarts == 2
    assert harness.part.status.last_exit == "could not be supervised: odd"
    await harness.part.stop()


async def test_only_a_gated_part_gets_a_pipe(tmp_path: Path) -> None:
    """An ungated program reads nothing: its input is /dev/null."""
    harness = PartHarness(tmp_path, SPEC)
    harness.part.begin()
    await settled(harness, 1)
    assert harness.given == asyncio.subprocess.DEVNULL
    await harness.part.stop()


async def test_a_gate_leaves_no_descriptor(tmp_path: Path) -> None:
    """However often a gated part exits, before its go-ahead or after it."""
    before = open_files()
    harness = PartHarness(
        tmp_path, PartSpec("part", ("/bin/true",), {}, gated=True), runs=[0, 0, 0]
    )
    harness.part.begin()
    await settled(harness, 2)
    os.close(harness.stdin)
    harness.part.open_gate()
    await settled(harness, 4)
    await harness.part.stop()
    # The descriptors that the test itself duplicates at each start stay open.
    assert len(open_files() - before) <= len(harness.started)


async def test_output_is_read_and_the_end_is_seen_while_a_child_holds_it() -> None:
    """The program's exit counts, though a child still holds its output open."""
    lines: list[bytes] = []
    code = "import os,sys,time\nif child := os.fork(): print(child, 'two', sep='\\n', flush=True)\n"
    code += "time.sleep(600 if not child else 0); os._exit(3)"
    running = await launch([sys.executable, "-c", code], os.environ, lines.append)
    try:
        async with asyncio.timeout(60):
            assert await running.wait() == 3
        assert lines[1:] == [b"two"]
    finally:
        os.kill(int(lines[0]), signal.SIGKILL)


def test_the_environment_overrides_no_configuration() -> None:
    """The caller's settings for PostgreSQL, etcd or Patroni do not reach the parts."""
    environment = {"PATH": "/bin", "PGHOST": "x", "ETCD_NAME": "x", "PATRONI_NAME": "x"}
    found = program_environment(environment, {"EXTRA": "1"})
    assert found["PATH"] == "/bin"
    assert found["EXTRA"] == "1"
    assert not {"PGHOST", "ETCD_NAME", "PATRONI_NAME"} & set(found)


def test_an_engine_gets_the_search_path_and_nothing_else_of_ours() -> None:
    """Neither the caller's secrets nor its settings for the engine's libraries are passed on."""
    ours = {"PATH": "/own/bin", "HOME": "/ours", "LD_PRELOAD": "x", "SECRET": "x", "TZ": "x"}
    found = engine_environment(ours, Path("/srv/node"), {"PGPASSFILE": "y"})
    home = {"HOME": "/srv/node"}
    assert found == {"PATH": "/own/bin", "LC_ALL": "C.UTF-8", "PGPASSFILE": "y", **home}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "killed by SIGKILL"),
        (-99, "killed by signal 99"),
    ],
)
def test_an_exit_is_told_in_words(code: int, text: str) -> None:
    """The log says how a program exited."""
    assert describe_exit(code) == text
