"""./dev stress: its report of a run, and that it stops everything it started, and nothing else."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts import stress

from openvcha.system.proc import read_stat

SLEEP = "import time; time.sleep(600)"


def ended(pid: int) -> bool:
    """Wait until a process is gone, or only a zombie is left; return False when it stays."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        stat = read_stat(pid)
        if stat is None or stat.ended:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load no plugin in the runs: each takes seconds to import when the machine is busy."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@contextlib.contextmanager
def stranger(directory: Path) -> Iterator[int]:
    """Start a process that works elsewhere, in a directory with a similar name."""
    directory.mkdir(parents=True)
    process = subprocess.Popen([sys.executable, "-c", SLEEP, str(directory)], cwd=directory)
    try:
        yield process.pid
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def module_with(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "test_it.py"
    path.write_text(textwrap.dedent(text))
    return ["-q", "-c", os.devnull, f"--rootdir={tmp_path}", str(path)]


def test_a_run_that_passes_is_told_as_one(tmp_path: Path) -> None:
    """With pytest's own closing line."""
    outcome = stress.run(tmp_path / "run", module_with(tmp_path, "def test_it(): pass"))
    assert outcome.passed, outcome
    assert "1 passed" in outcome.closing


def test_each_test_that_fails_is_named(tmp_path: Path) -> None:
    """And the whole log is kept."""
    text = "def test_one(): pass\ndef test_two(): assert False, 'why'"
    outcome = stress.run(tmp_path / "run", module_with(tmp_path, text))
    assert not outcome.passed
    (failed,) = outcome.failed
    assert "test_two" in failed
    assert "why" in outcome.log.read_text()


def test_a_run_without_a_test_is_no_success(tmp_path: Path) -> None:
    """It has proved nothing."""
    outcome = stress.run(tmp_path / "run", module_with(tmp_path, ""))
    assert outcome.wrong == ("pytest ended with 5",)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stress, "LEAVE_SECONDS", 0.0)


@pytest.mark.usefixtures("at_once")
def test_what_a_test_leaves_behind_is_told_and_ended(tmp_path: Path) -> None:
    """It fails the run, though every test of it has passed."""
    text = f"""
        import subprocess, sys
        def test_it(tmp_path):
            left = subprocess.Popen([sys.executable, "-c", "{SLEEP}"], cwd=tmp_path)
            (tmp_path.parent.parent / "left").write_text(str(left.pid))
            left.returncode = 0  # or Python tells it before we do
    """
    outcome = stress.run(tmp_path / "run", module_with(tmp_path, text))
    assert [wrong.partition(":")[0] for wrong in outcome.wrong] == ["left behind"]
    assert ended(int((tmp_path / "run" / "left").read_text()))


@pytest.mark.usefixtures("at_once")
def test_nobody_else_is_ended(tmp_path: Path) -> None:
    """Nor a process in a directory with a similar name."""
    with stranger(tmp_path / "made-elsewhere"), stranger(tmp_path / "other"):
        assert stress.end_left(tmp_path / "made") == []


def test_a_run_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """The wait is bounded, and the report says so."""
    arguments = module_with(tmp_path, "import time\ndef test_it(): time.sleep(600)")
    outcome = stress.run(tmp_path / "run", arguments, seconds=0.1)
    assert "not finished after 0.1 s" in outcome.wrong


def test_who_is_interrupted_takes_down_what_is_up(tmp_path: Path) -> None:
    """Its tests' fixtures are torn down as after Ctrl-C."""
    up, down = tmp_path / "up", tmp_path / "down"
    text = f"""
        import pathlib, pytest, time
        @pytest.fixture
        def lab():
            yield
            pathlib.Path("{down}").touch()
        def test_it(lab):
            pathlib.Path("{up}").touch()  # pytest takes down only a fixture that is complete
            time.sleep(600)
    """
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    with subprocess.Popen(
        [*command, *module_with(tmp_path, text)], stdout=subprocess.DEVNULL, start_new_session=True
    ) as tests:
        deadline = time.monotonic() + 120
        while not up.exists():
            assert tests.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert stress.interrupt(tests) == pytest.ExitCode.INTERRUPTED
    assert down.exists()


def test_a_series_in_the_background_can_interrupt_its_tests() -> None:
    """A shell makes it ignore SIGINT; its children would inherit that."""
    shown = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    program = "import subprocess, sys\nfrom scripts import stress\nstress.heed_signals()\n"
    program += "subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", program, shown]
    root = Path(stress.__file__).parent.parent
    told = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert told.stdout == "False\n"


def test_burners_end_with_whoever_asked() -> None:
    """At the end, and when that is not reached."""
    with stress.burners(2, 600) as taken:
        assert len(taken) == 2
    assert all(ended(process.pid) for process in taken)
    program = "from scripts import stress\nwith stress.burners(1, 600) as taken:\n"
    program += "    print(taken[0].pid, flush=True); input()"
    command = [sys.executable, "-c", program]
    root = Path(stress.__file__).parent.parent
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as asked:
        assert asked.stdout
        burner = int(asked.stdout.readline())
        asked.send_signal(signal.SIGKILL)
    assert ended(burner)


def test_burners_end_by_themselves() -> None:
    """Their parent may hang."""
    with stress.burners(1, 0.1) as (burner,):
        assert ended(burner.pid)


class SecondLab:
    """A SIMULATED second lab: the calls it gets, and its health, at first and later."""

    def __init__(self, well: bool, *, unwell_at_first: int = 0) -> None:
        self.well = well
        self.unwell_at_first = unwell_at_first
        self.asked: list[str] = []

    def __call__(self, word: str, *options: str) -> "subprocess.CompletedProcess[bytes]":
        self.asked.append(word)
        failed = word == "status" and (not self.well or self.unwell_at_first > 0)
        self.unwell_at_first -= word == "status"
        return subprocess.CompletedProcess([word, *options], int(failed))


@pytest.mark.parametrize(("text", "well"), [("pass", True), ("pass", False), ("assert 0", True)])
def test_all_runs_must_pass_beside_a_lab_that_stays_well(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    well: bool,
) -> None:
    """The lab is deleted whatever happened, and its errors are kept."""
    lab = SecondLab(well)
    monkeypatch.setattr(stress, "_vcha", lab)
    monkeypatch.setattr(stress, "LAB_SECONDS", 0.0)
    passed = stress.stress(tmp_path, 2, module_with(tmp_path, f"def test_it(): {text}"), cores=0)
    assert passed == (text == "pass" and well)
    assert lab.asked == ["up", "status", "status", "reset"]
    assert f"{2 if passed else 0} of 2 runs passed" in capsys.readouterr().out
    assert (tmp_path / "run-1" / "log").exists() is not passed


def test_a_second_lab_that_is_unwell_for_a_moment_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node may be about to take over: it is asked until the deadline."""
    lab = SecondLab(well=True, unwell_at_first=2)
    monkeypatch.setattr(stress, "_vcha", lab)
    monkeypatch.setattr(stress, "POLL_SECONDS", 0.0)
    assert stress.stress(tmp_path, 1, module_with(tmp_path, "def test_it(): pass"), cores=0)
    assert lab.asked == ["up", "status", "status", "status", "reset"]


def test_a_run_without_its_load_has_not_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It shows nothing about a busy machine; the next run has its own burners."""
    monkeypatch.setattr(stress, "_vcha", SecondLab(well=True))
    whole, taken = stress.burners, []

    @contextlib.contextmanager
    def some(count: int, seconds: float) -> Iterator[list["subprocess.Popen[bytes]"]]:
        with whole(count, seconds) as burning:
            taken.extend(burning)
            if len(taken) == count:
                burning[0].kill()
            yield burning

    monkeypatch.setattr(stress, "burners", some)
    assert not stress.stress(tmp_path, 2, module_with(tmp_path, "def test_it(): pass"), cores=2)
    told = capsys.readouterr().out
    assert "1 of 2 burners ended early" in told
    assert "1 of 2 runs passed" in told
    assert len({process.pid for process in taken}) == 4


def test_the_first_run_that_fails_is_kept_and_each_is_told_with_its_time_and_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the later ones only the log: a run's files are large."""
    monkeypatch.setattr(stress, "_vcha", SecondLab(well=True))
    arguments = module_with(tmp_path, "def test_it(tmp_path): assert 0")
    assert not stress.stress(tmp_path, 2, arguments, cores=0)
    kept = [(tmp_path / f"run-{number}" / "made").exists() for number in (1, 2)]
    assert kept == [True, False]
    assert (tmp_path / "run-2" / "log").exists()
    out = capsys.readouterr().out
    assert len(re.findall(r"  \d+ s; load at its end .*: [\d.]+ [\d.]+ [\d.]+\n", out)) == 2


def test_a_series_that_was_broken_off_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the remaining runs, and its output says which they are."""
    monkeypatch.setattr(stress, "_vcha", SecondLab(well=True))
    arguments = module_with(tmp_path, "def test_it(): pass")
    assert stress.stress(tmp_path, 3, arguments, cores=0, first=3)
    out = capsys.readouterr().out
    assert "run 3 of 3: " in out
    assert "run 2 of 3: " not in out
    assert "1 of 1 runs passed (from run 3 of 3)" in out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], (5, 1, [])),
        (["2", "-x"], (2, 1, ["-x"])),
        (["7", "--from", "3", "tests/api"], (7, 3, ["tests/api"])),
        (["--from=5"], (5, 5, [])),
    ],
)
def test_what_is_asked_for_is_read(words: list[str], found: tuple[int, int, list[str]]) -> None:
    """Everything else is passed to pytest."""
    assert stress.parsed(words) == found


@pytest.mark.parametrize("words", [["--from"], ["--from", "6"], ["2", "--from=0"], ["--from=x"]])
def test_a_first_run_that_is_none_is_refused(words: list[str]) -> None:
    """Nothing is started."""
    with pytest.raises(ValueError, match="number of a run"):
        stress.parsed(words)


def test_the_lab_is_taken_down_when_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Ctrl-C, and on the signals of job control."""

    def interrupted(*_: object) -> stress.Outcome:
        raise KeyboardInterrupt

    lab = SecondLab(well=True)
    monkeypatch.setattr(stress, "_vcha", lab)
    monkeypatch.setattr(stress, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stress.stress(tmp_path, 1, [], cores=1)
    assert lab.asked == ["up", "reset"]
