"""The tests again and again where it is hard: beside a second lab, with all cores taken.

Usage: stress.py [RUNS] [--from K] [PYTEST ARGUMENT...]. A series that was broken off goes on with
run K of so many; what has passed before is what its own output says.

What this starts ends with it, and it ends nothing else. Beside a test that fails, it is a failure
when a run leaves processes behind, or when the second lab is not HEALTHY afterwards.
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
"""How long what a run has started may take to end after it."""
CLOSING = re.compile(r"^(=+ )?\d+ \w+.* in [\d.]+s")
BURN = """
import os, sys, time
parent, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while os.getppid() == parent and time.monotonic() < end:
    for _ in range(1_000_000): pass
"""


@dataclass(frozen=True)
class Outcome:
    """One run: pytest's closing line, the tests that failed, what else was wrong, its seconds."""

    closing: str
    failed: tuple[str, ...]
    wrong: tuple[str, ...]
    log: Path
    wall: float

    @property
    def passed(self) -> bool:
        """Return whether nothing was wrong."""
        return not self.failed and not self.wrong


@contextlib.contextmanager
def burners(count: int, seconds: float) -> Iterator[list[int]]:
    """Take so many cores, and return the process ids. Each ends by itself after ``seconds``."""
    command = [sys.executable, "-c", BURN, str(os.getpid()), str(seconds)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.extend(subprocess.Popen(command) for _ in range(count))
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


@contextlib.contextmanager
def second_lab(directory: Path) -> Iterator[list[str]]:
    """Have another lab on the machine, and return the options that name it."""
    options = ["--name", LAB, "--dir", str(directory)]
    try:
        _vcha("up", *options).check_returncode()
        yield options
    finally:
        _vcha("reset", "--yes", *options)


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
    """Run pytest once, with all that it makes below ``directory``."""
    directory.mkdir()
    begun = time.monotonic()
    log, made = directory / "log", directory / MADE
    wrong: list[str] = []
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={made}"]
    with log.open("wb") as out:
        # Its own session, so that Ctrl-C reaches it once, from here.
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
    """Let it take down what its fixtures have put up."""
    tests.send_signal(signal.SIGINT)
    try:
        return tests.wait(COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        tests.kill()
        return tests.wait()


def end_left(directory: Path) -> list[str]:
    """End what still works below ``directory`` after a while, and return which processes it was."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while (left := _below(directory)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
            try:
                # The id may be another's by now: it is looked at again once it is held.
                if pid in _below(directory):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
    return list(left.values())


def _below(directory: Path) -> dict[int, str]:
    """Find who names the directory in the command line, or works in it: by process id."""
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
    """Carry out the runs from the first with so many cores taken; return whether all passed.

    Of the first run that fails all is kept, of the others their log: a run leaves gigabytes.
    """
    numbers = range(first, runs + 1)
    bad: list[int] = []
    limit = len(numbers) * (RUN_SECONDS + COMMAND_SECONDS)
    with second_lab(directory / "labs") as lab, burners(cores, limit):
        for number in numbers:
            outcome = run(directory / f"run-{number}", arguments)
            load = " ".join(f"{average:.1f}" for average in os.getloadavg())
            well = _vcha("status", *lab).returncode == 0
            wrong = [*outcome.wrong, *([] if well else ["the second lab is not HEALTHY"])]
            _tell(f"run {number} of {runs}: {outcome.closing}")
            _tell(f"  {outcome.wall:.0f} s; load at its end (of 1, 5, 15 minutes): {load}")
            for line in (*outcome.failed, *wrong):
                _tell(f"  {line}")
            _keep(outcome, passed=outcome.passed and well, first=not bad)
            if not (outcome.passed and well):
                bad.append(number)
    told = f"{len(numbers) - len(bad)} of {len(numbers)} runs passed"
    _tell(told if first == 1 else f"{told} (from run {first} of {runs})")
    return not bad


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
    """Return how many runs, the first one to carry out, and what is pytest's.

    Raises ValueError for a first run that is none of them.
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
    """Treat SIGTERM as Ctrl-C, which takes down all that was put up, and ignore neither.

    A shell starts background jobs with SIGINT ignored, and pytest would inherit that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def main() -> int:
    """Read the command line; the exit code is 0 when all runs have passed."""
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
