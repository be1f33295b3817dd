"""The tests again and again where it is hard: beside a second lab, with all cores taken.

What this starts ends with it, and it ends nothing else. Beside a test that fails, it is a failure
when a run leaves processes behind, or when the second lab is not well afterwards.
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
    """One run: pytest's closing line, the tests that failed, and what else was wrong."""

    closing: str
    failed: tuple[str, ...]
    wrong: tuple[str, ...]
    log: Path

    @property
    def passed(self) -> bool:
        """Tell whether nothing was wrong."""
        return not self.failed and not self.wrong


@contextlib.contextmanager
def burners(count: int, seconds: float) -> Iterator[list[int]]:
    """Take so many cores; gives the process ids. Each ends by itself after ``seconds``."""
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
    """Have another lab on the machine; gives the options that name it."""
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
    log, made = directory / "log", directory / "made"
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
            wrong.append(f"not over after {seconds:g} s")
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
    return Outcome(closing[-1] if closing else "no closing line", failed, tuple(wrong), log)


def interrupt(tests: subprocess.Popen[bytes]) -> int:
    """Let it take down what its fixtures have put up."""
    tests.send_signal(signal.SIGINT)
    try:
        return tests.wait(COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        tests.kill()
        return tests.wait()


def end_left(directory: Path) -> list[str]:
    """End the processes that still work below ``directory`` after a while; gives what they are."""
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


def stress(directory: Path, runs: int, arguments: Sequence[str], cores: int) -> bool:
    """Run so many times with so many cores taken; tells whether all have passed."""
    bad = 0
    limit = runs * (RUN_SECONDS + COMMAND_SECONDS)
    with second_lab(directory / "labs") as lab, burners(cores, limit):
        for number in range(1, runs + 1):
            outcome = run(directory / f"run-{number}", arguments)
            well = _vcha("status", *lab).returncode == 0
            wrong = [*outcome.wrong, *([] if well else ["the second lab is not well"])]
            _tell(f"run {number} of {runs}: {outcome.closing}")
            for line in (*outcome.failed, *wrong):
                _tell(f"  {line}")
            if outcome.passed and well:
                shutil.rmtree(outcome.log.parent)
            else:
                bad += 1
                _tell(f"  all of it is in {outcome.log.parent}")
    _tell(f"{runs - bad} of {runs} runs passed")
    return not bad


def _tell(line: str) -> None:
    sys.stdout.write(f"stress: {line}\n")
    sys.stdout.flush()


def main() -> int:
    """Read ``[RUNS] [PYTEST ARGUMENT...]``; the exit code is 0 when all runs have passed."""
    arguments = sys.argv[1:]
    runs = int(arguments.pop(0)) if arguments and arguments[0].isdecimal() else RUNS
    # As Ctrl-C: all that was put up is taken down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="openvcha-stress-"))
    passed = False
    try:
        passed = stress(directory, runs, arguments or ["-n", "auto"], os.cpu_count() or 1)
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
