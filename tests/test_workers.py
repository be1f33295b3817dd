"""A parallel run: what stays together, when it reports, and what Ctrl-C leaves behind."""

import os
import signal
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests import workers
from tests.support.runs import SECONDS, ended, running, written
from tests.support.waiting import until

XDIST_WAITS = 1
LONGER_THAN_XDIST_WAITS = 4


def test_who_shares_a_lab_is_one_group(tmp_path: Path) -> None:
    """Any other file is its own group."""
    shared = 'SHARED_LAB = "it"\n'
    written(tmp_path, test_a=shared, test_b="", test_c=shared)
    groups = [workers.group(tmp_path, f"test_{name}.py") for name in "abc"]
    assert groups[0] == groups[2] != groups[1]


def test_who_shares_a_lab_follows_one_another(tmp_path: Path) -> None:
    """So that it is brought up once; even with one worker."""
    it = "def test_it(): pass\n"
    shared = f'SHARED_LAB = "it"\n{it}'
    written(tmp_path, test_a=shared, test_b=it, test_c=shared)
    _, log = ended(tmp_path, "-v")
    names = [line.partition(".py")[0] for line in log.splitlines() if "::test_it PASSED" in line]
    assert names == ["test_a", "test_c", "test_b"]


@pytest.mark.parametrize("arguments", [(), ("-n", "1")], ids=["serial", "parallel"])
def test_what_takes_longest_begins_first(tmp_path: Path, arguments: Sequence[str]) -> None:
    """However few tests it has: a run with real engines that begins last ends long after all."""
    few, many = tmp_path / "tests" / "e2e", tmp_path / "tests" / "api"
    for folder, text in (
        (many, "def test_one(): pass\ndef test_two(): pass"),
        (few, "def test_it(): pass"),
    ):
        folder.mkdir(parents=True)
        written(folder, **{f"test_{folder.name}": text})
    _, log = ended(tmp_path, "-v", *arguments)
    began = [log.index(f"test_{name}.py::test_") for name in ("e2e", "api")]
    assert began == sorted(began)


def test_what_begins_first_exists() -> None:
    """A file that was moved would begin with the short ones."""
    root = Path(__file__).parents[1]
    assert [place for place in workers.LONGEST_FIRST if not (root / place).exists()] == []


def test_a_group_stays_in_one_worker(tmp_path: Path) -> None:
    """Each group in any free worker."""
    it = """
        import os, pathlib
        def test_one(): pathlib.Path(__file__).with_suffix(".one").write_text(str(os.getpid()))
        def test_two(): pathlib.Path(__file__).with_suffix(".two").write_text(str(os.getpid()))
        def test_three(): pass
    """
    shared = f'SHARED_LAB = "it"\n{textwrap.dedent(it)}'
    written(tmp_path, test_a=shared, test_b=it, test_c=shared)
    code, log = ended(tmp_path, "-n", "2")
    assert code == 0, log
    a, c = ({(tmp_path / f"test_{n}.{t}").read_text() for t in ("one", "two")} for n in "ac")
    assert len(a | c) == 1


def test_a_worker_gets_no_group_before_it_needs_one(tmp_path: Path) -> None:
    """Otherwise a short group waits behind a long one, while the other worker is idle."""
    long = """
        import pathlib, time
        def test_one(): pass
        def test_two():
            end = time.monotonic() + 60
            while not pathlib.Path(__file__).with_name("done").exists():
                assert time.monotonic() < end
                time.sleep(0.01)
        def test_three(): pass
    """
    short = "def test_it(): pass"
    last = "import pathlib\ndef test_it(): pathlib.Path(__file__).with_name('done').touch()"
    written(tmp_path, test_a=long, test_b=short, test_c=short, test_d=last)
    code, log = ended(tmp_path, "-n", "2")
    assert code == 0, log


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["serial", "parallel"])
def test_a_failure_is_told_when_it_happens(tmp_path: Path, arguments: Sequence[str]) -> None:
    """And again at the end."""
    waits = """
        import pathlib, time
        def test_it():
            end = time.monotonic() + 120
            while not pathlib.Path(__file__).with_name("told").exists():
                assert time.monotonic() < end
                time.sleep(0.01)
    """
    written(tmp_path, test_a="def test_it(): assert not 'why'", test_b=waits)
    log = tmp_path / "log"
    with running(tmp_path, *arguments) as process:
        until(lambda: "assert not 'why'" in log.read_text() or process.poll() is not None, SECONDS)
        assert process.poll() is None, log.read_text()
        assert "test_a.py::test_it failed in its call" in log.read_text()
        (tmp_path / "told").touch()
        assert process.wait(SECONDS) == 1
    assert log.read_text().count("assert not 'why'") >= 2
    assert "FAILED test_a.py::test_it" in log.read_text()


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["serial", "parallel"])
def test_what_hangs_is_named(tmp_path: Path, arguments: Sequence[str]) -> None:
    """The other tests go on."""
    hangs = "import threading\ndef test_it(): threading.Event().wait()"
    written(tmp_path, test_a=hangs, test_b="def test_it(): pass")
    code, log = ended(tmp_path, "--timeout=1", *arguments)
    assert code == 1
    assert "FAILED test_a.py::test_it - Failed: Timeout" in log
    assert "1 failed, 1 passed" in log


def test_each_test_has_a_deadline(pytestconfig: pytest.Config) -> None:
    """Well before the run's own, which would end it without a name."""
    assert 0 < float(pytestconfig.getini("timeout")) <= 1800


def test_a_test_that_takes_an_interrupt_for_its_own_stops_nobody(tmp_path: Path) -> None:
    """The run still ends, after it."""
    text = """
        import pathlib, time
        def test_one():
            try:
                pathlib.Path(__file__).with_name("up").touch()
                time.sleep(600)
            except KeyboardInterrupt:
                pass
        def test_two(): time.sleep(600)
        def test_three(): time.sleep(600)
    """
    written(tmp_path, test_a=text, test_b="def test_it(): pass")
    with running(tmp_path, "-n", "2") as process:
        until((tmp_path / "up").exists, SECONDS)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == pytest.ExitCode.INTERRUPTED


def test_who_interrupts_a_parallel_run_leaves_nothing_up(tmp_path: Path) -> None:
    """Labs need longer to stop than xdist gives its workers: 10 s, and less here."""
    hasty = f"from xdist.workermanage import NodeManager\nNodeManager.EXIT_TIMEOUT = {XDIST_WAITS}"
    text = f"""
        import pathlib, pytest, time
        folder = pathlib.Path(__file__).parent
        @pytest.fixture
        def lab():
            yield
            time.sleep({LONGER_THAN_XDIST_WAITS})
            (folder / "down").touch()
        def test_it(lab):
            (folder / "up").touch()  # pytest takes down only a fixture that is complete
            time.sleep(600)
    """
    by_terminal, alone = tmp_path / "terminal", tmp_path / "alone"
    for folder in (by_terminal, alone):
        folder.mkdir()
        written(folder, hasty=hasty, test_a=text, test_b="def test_it(): pass")
    words = ("-n", "2", "-p", "hasty")
    with running(by_terminal, *words) as all_are, running(alone, *words) as one_is:
        until((by_terminal / "up").exists, SECONDS)
        until((alone / "up").exists, SECONDS)
        os.killpg(all_are.pid, signal.SIGINT)  # a terminal interrupts the workers too
        one_is.send_signal(signal.SIGINT)
        codes = [process.wait(SECONDS) for process in (all_are, one_is)]
    for folder in (by_terminal, alone):
        assert (folder / "down").exists(), (folder / "log").read_text()
    logs = "".join((folder / "log").read_text() for folder in (by_terminal, alone))
    assert codes == [pytest.ExitCode.INTERRUPTED] * 2, logs
