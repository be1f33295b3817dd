"""Repeats the tests under load: beside a second lab, with all cores busy.

Usage: stress.py [RUNS] [--from K] [PYTEST ARGUMENT...]. --from continues an interrupted series of
RUNS with run K; the output of that series has the earlier results.

It ends everything that it has started, and nothing else. Besides a failing test, a run fails if it
leaves processes behind, if the cores were not busy until its end, or if the second lab does not
become HEALTHY afterwards.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

RUNS = 5
LAB = "stress"
MADE = "made"
RUN_SECONDS = 90 * 60.0
COMMAND_SECONDS = 600.0
LEAVE_SECONDS = 20.0
"""How long the processes of a run may take to end after it."""
LAB_SECONDS = 120.0
"""How long the second lab may take to be HEALTHY after a run: one status may be of a moment."""
POLL_SECONDS = 1.0
CLOSING = re.compile(r"^(=+ )?\d+ \w+.* in [\d.]+s")
BURN = """
import os, sys, time
parent, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while os.getppid() == parent and time.monotonic() < end:
    for _ in range(1_000_000): pass
"""


@dataclass(frozen=True)
class Outcome:
    """One run: pytest's closing line, the failed tests, other failures, and its seconds."""

    closing: str
    failed: tuple[str, ...]
    wrong: tuple[str, ...]
    log: Path
    wall: float

    @property
    def passed(self) -> bool:
        """Return whether there was no failure."""
        return not self.failed and not self.wrong


@contextlib.contextmanager
def burners(count: int, seconds: float) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep this many cores busy, and yield the processes. Each ends after ``seconds``."""
    command = [sys.executable, "-c", BURN, str(os.getpid()), str(seconds)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.extend(subprocess.Popen(command) for _ in range(count))
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


@contextlib.contextmanager
def second_lab(directory: Path) -> Iterator[list[str]]:
    """Run another lab on the machine, and yield the options that select it."""
    options = ["--name", LAB, "--dir", str(directory)]
    try:
        _vcha("up", *options).check_returncode()
        yield options
    finally:
        _vcha("reset", "--yes", *options)


def lab_is_healthy(options: Sequence[str]) -> bool:
    """Return whether a lab is HEALTHY, or becomes so before the deadline."""
    deadline = time.monotonic() + LAB_SECONDS
    while _vcha("status", *options).returncode:
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _vcha(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "openvcha", "lab", *arguments]
    return subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=COMMAND_SECONDS,
    )


def run(directory: Path, arguments: Sequence[str], seconds: float = RUN_SECONDS) -> Outcome:
    """Run pytest once; everything that it creates is below ``directory``."""
    directory.mkdir()
    begun = time.monotonic()
    log, made = directory / "log", directory / MADE
    wrong: list[str] = []
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={made}"]
    with log.open("wb") as out:
        # In its own session, so that it gets Ctrl-C only once, from here.
        tests = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = tests.wait(seconds)
        except subprocess.TimeoutExpired:
            wrong.append(f"not finished after {seconds:g} s")
            code = interrupt(tests)
        except BaseException:
            interrupt(tests)
            end_left(made)
            raise
    wrong += [f"left behind: {name}" for name in end_left(made)]
    lines = log.read_text(errors="replace").splitlines()
    failed = tuple(line for line in lines if line.startswith(("FAILED ", "ERROR ")))
    if code and not failed:
        wrong.append(f"pytest ended with {code}")
    closing = [line for line in lines if CLOSING.match(line)]
    last = closing[-1] if closing else "no summary line"
    return Outcome(last, failed, tuple(wrong), log, time.monotonic() - begun)


def interrupt(tests: subprocess.Popen[bytes]) -> int:
    """Interrupt the tests, so that pytest tears down its fixtures; kill them at the deadline."""
    tests.send_signal(signal.SIGINT)
    try:
        return tests.wait(COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        tests.kill()
        return tests.wait()


def end_left(directory: Path) -> list[str]:
    """Kill the processes that still run below ``directory`` after a while, and return them."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while (left := _below(directory)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
            try:
                # The pid may have been reused: check again while it is held.
                if pid in _below(directory):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
    return list(left.values())


def _below(directory: Path) -> dict[int, str]:
    """Return the processes that name the directory or work in it, by pid."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (
                (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            works_in = f"{(process / 'cwd').readlink()}/"
            if f"{directory}/" in f"{command}/ " or works_in.startswith(f"{directory}/"):
                found[int(process.name)] = command.strip()[:200]
    found.pop(os.getpid(), None)
    return found


def stress(
    directory: Path, runs: int, arguments: Sequence[str], cores: int, first: int = 1
) -> bool:
    """Do the runs from ``first`` on with this many busy cores; return whether all passed.

    Keep everything of the first run that fails, of the others only the log: a run leaves gigabytes.
    """
    numbers = range(first, runs + 1)
    bad: list[int] = []
    with second_lab(directory / "labs") as lab:
        for number in numbers:
            with burners(cores, RUN_SECONDS + 2 * COMMAND_SECONDS) as busy:
                outcome = run(directory / f"run-{number}", arguments)
                load = " ".join(f"{average:.1f}" for average in os.getloadavg())
                wrong = [*outcome.wrong, *_wrong_around(busy, lab)]
            _tell(f"run {number} of {runs}: {outcome.closing}")
            _tell(f"  {outcome.wall:.0f} s; load at its end (of 1, 5, 15 minutes): {load}")
            for line in (*outcome.failed, *wrong):
                _tell(f"  {line}")
            passed = not outcome.failed and not wrong
            _keep(outcome, passed=passed, first=not bad)
            if not passed:
                bad.append(number)
    told = f"{len(numbers) - len(bad)} of {len(numbers)} runs passed"
    _tell(told if first == 1 else f"{told} (from run {first} of {runs})")
    return not bad


def _wrong_around(busy: Sequence[subprocess.Popen[bytes]], lab: Sequence[str]) -> list[str]:
    """Return what was wrong around a run that has just ended: with its load, or the second lab."""
    ended = sum(process.poll() is not None for process in busy)
    wrong = (
        [f"{ended} of {len(busy)} burners ended early: the cores were not busy"] if ended else []
    )
    return wrong if lab_is_healthy(lab) else [*wrong, "the second lab is not HEALTHY"]


def _keep(outcome: Outcome, *, passed: bool, first: bool) -> None:
    folder = outcome.log.parent
    if passed:
        shutil.rmtree(folder)
        return
    if not first:
        shutil.rmtree(folder / MADE, ignore_errors=True)
    _tell(f"  {'all of it' if first else 'its log'} is in {folder}")


def _tell(line: str) -> None:
    sys.stdout.write(f"stress: {line}\n")
    sys.stdout.flush()


def parsed(words: Sequence[str]) -> tuple[int, int, list[str]]:
    """Return the number of runs, the first run to do, and pytest's arguments.

    Raises ValueError for a first run out of range.
    """
    arguments = list(words)
    runs = int(arguments.pop(0)) if arguments and arguments[0].isdecimal() else RUNS
    first = 1
    if arguments and arguments[0].partition("=")[0] == "--from":
        _, equals, number = arguments.pop(0).partition("=")
        if not equals:
            number = arguments.pop(0) if arguments else ""
        if not number.isdecimal() or not 1 <= int(number) <= runs:
            raise ValueError(f"--from takes the number of a run, 1 to {runs}: {number!r}")
        first = int(number)
    return runs, first, arguments


def heed_signals() -> None:
    """Treat SIGTERM as Ctrl-C, which tears everything down, and ignore neither.

    A shell starts background jobs with SIGINT ignored, and pytest would inherit that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def main() -> int:
    """Run the command line; the exit code is 0 if all runs passed."""
    try:
        runs, first, arguments = parsed(sys.argv[1:])
    except ValueError as error:
        _tell(str(error))
        return 2
    heed_signals()
    directory = Path(tempfile.mkdtemp(prefix="openvcha-stress-"))
    passed = False
    try:
        cores = os.cpu_count() or 1
        passed = stress(directory, runs, arguments or ["-n", "auto"], cores, first)
    except KeyboardInterrupt:
        _tell("interrupted")
        return 130
    finally:
        end_left(directory)
        if passed:
            shutil.rmtree(directory, ignore_errors=True)
    return int(not passed)


if __name__ == "__main__":
    raise SystemExit(main())
