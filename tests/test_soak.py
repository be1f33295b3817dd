"""Which tests a run leaves out, and that this cannot be overlooked."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.support.runs import ROOT, ended, written

BOTH = """
    import pytest
    @pytest.mark.soak
    def test_long(): pass
    def test_short(): pass
"""
LONG = """
    import pytest
    pytestmark = pytest.mark.soak
    def test_all(): pass
"""
PASSED = re.compile(r"::(\w+) PASSED|PASSED \S+::(\w+)")
EITHER = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "parallel"])


def passed(log: str) -> set[str]:
    """Return the tests that a verbose log names as passed; a worker's name precedes them."""
    return {before or after for before, after in PASSED.findall(log)}


@EITHER
def test_a_run_leaves_out_what_is_long_and_says_so(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    """In its first lines, and counted in its last, whichever plugins read the reports there."""
    written(tmp_path, test_a=BOTH, test_b=LONG)
    code, log = ended(tmp_path, "-v", "-p", "_hypothesis_pytestplugin", *workers)
    assert (code, passed(log)) == (0, {"test_short"}), log
    assert "soak: left out" in log
    assert "1 passed, 2 deselected" in log


@EITHER
def test_what_is_long_runs_when_it_is_asked_for(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """And no others: those have had their run."""
    written(tmp_path, test_a=BOTH, test_b=LONG)
    code, log = ended(tmp_path, "-v", "--soak", *workers)
    assert (code, passed(log)) == (0, {"test_long", "test_all"}), log
    assert "2 passed, 1 deselected" in log


@EITHER
@pytest.mark.parametrize("named", ["test_b.py", "test_b.py::test_all"])
def test_what_is_named_runs(tmp_path: Path, workers: tuple[str, ...], named: str) -> None:
    """Even a long one; and together with a folder that is named too."""
    written(tmp_path, test_a=BOTH, test_b=LONG)
    code, log = ended(tmp_path, "-v", *workers, str(tmp_path / named))
    assert (code, passed(log)) == (0, {"test_short", "test_all"}), log
    assert "2 passed, 1 deselected" in log


@pytest.mark.parametrize("command", ["test", "stress", "check"])
def test_whoever_asks_for_help_waits_for_no_environment(tmp_path: Path, command: str) -> None:
    """No environment is created or installed for it."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    (copy / "dev").write_text((ROOT / "dev").read_text())
    (copy / "dev").chmod(0o755)
    (copy / "scripts").symlink_to(ROOT / "scripts")
    done = subprocess.run(
        [copy / "dev", command, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "test --soak" in done.stdout
    assert {path.name for path in copy.iterdir()} == {"dev", "scripts"}


def programs(folder: Path, **texts: str) -> dict[str, str]:
    """Write shell scripts, and return an environment in which they are first on the PATH."""
    folder.mkdir()
    for name, text in texts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


HELD = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)"


@pytest.mark.parametrize(
    ("text", "seconds", "code", "calls"),
    [
        (f'[ "$(wc -l <calls)" -gt 1 ] || {{ echo "{HELD}" >&2; exit 100; }}', 60, 0, 2),
        (f'echo "{HELD}" >&2; exit 100', 0, 100, 1),
        ('echo "E: Unable to locate package" >&2; exit 100', 60, 100, 1),
    ],
    ids=["released", "held for ever", "another reason"],
)
def test_an_installation_waits_for_another_one(
    tmp_path: Path, text: str, seconds: int, code: int, calls: int
) -> None:
    """Only for its lock, and not for ever."""
    environment = programs(tmp_path / "bin", apt_get=f"echo >>calls\n{text}")
    script = (
        f"set -euo pipefail; say() {{ :; }}; . {ROOT}/scripts/packages.sh; patient_apt_get update"
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**environment, "APT_SECONDS": str(seconds)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done
    assert len((tmp_path / "calls").read_text().splitlines()) == calls


CI_CALLS = ["check", "test", "test --soak", "coverage"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout for CI, with a ./dev that acts as `says` has it. SIMULATED."""
    folder = tmp_path / "ci"
    (folder / ".ci").mkdir(parents=True)
    (folder / ".ci" / "run").write_text((ROOT / ".ci" / "run").read_text())
    (folder / ".ci" / "run").chmod(0o755)
    (folder / "dev").write_text('#!/bin/sh\necho "$*" >>calls\n. "./$(echo "$*" | tr " " _)"\n')
    (folder / "dev").chmod(0o755)
    (folder / "check").write_text("echo 'Contracts: 3 kept, 0 broken.'\n")
    (folder / "test").write_text("echo '= 7 passed, 2 deselected in 5.00s (0:00:05) ='\n")
    (folder / "test_--soak").write_text("echo '2 passed, 7 deselected in 9.00s'\n")
    (folder / "coverage").write_text("echo 'TOTAL 100 25 75%'\n")
    return folder


def ci(checkout: Path, *arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [checkout / ".ci" / "run", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_ci_runs_all_and_ends_with_a_line_of_each(checkout: Path) -> None:
    """With one command."""
    code, lines = ci(checkout)
    assert code == 0
    assert (checkout / "calls").read_text().splitlines() == CI_CALLS
    assert lines[-5:] == [
        "./dev check: Contracts: 3 kept, 0 broken. (exit code 0)",
        "./dev test: = 7 passed, 2 deselected in 5.00s (0:00:05) = (exit code 0)",
        "./dev test --soak: 2 passed, 7 deselected in 9.00s (exit code 0)",
        "./dev coverage: TOTAL 100 25 75% (exit code 0)",
        "9 passed in 14.00s",
    ]


def test_ci_counts_all_that_failed(checkout: Path) -> None:
    """In the last line, as pytest writes it."""
    (checkout / "test").write_text("echo '= 1 failed, 6 passed in 5.00s ='; exit 1\n")
    (checkout / "test_--soak").write_text("echo '2 failed, 2 passed, 1 error in 9.50s'; exit 1\n")
    code, lines = ci(checkout)
    assert (code, lines[-1]) == (1, "3 failed, 8 passed, 1 error in 14.50s")


@pytest.mark.parametrize("failing", ["check", "test", "test_--soak"])
def test_ci_goes_on_after_a_failure_and_fails(checkout: Path, failing: str) -> None:
    """The exit code is that of the worst step."""
    with (checkout / failing).open("a") as script:
        script.write("exit 3\n")
    code, lines = ci(checkout)
    assert code == 3
    assert (checkout / "calls").read_text().splitlines() == CI_CALLS
    assert [line.endswith("(exit code 3)") for line in lines[-5:]].count(True) == 1


def test_ci_only_shows_the_coverage(checkout: Path) -> None:
    """Its tests have been judged before, and are slower there."""
    (checkout / "coverage").write_text("echo '1 failed, 5 passed in 9.00s'; exit 3\n")
    code, lines = ci(checkout)
    assert (code, lines[-1]) == (0, "9 passed in 14.00s")


def test_ci_with_arguments_runs_what_they_name(checkout: Path) -> None:
    """Even long tests, if their file is named."""
    (checkout / "test_it").write_text("echo '1 passed in 1.00s'\n")
    code, lines = ci(checkout, "it")
    assert code == 0
    assert (checkout / "calls").read_text().splitlines() == ["check", "test it"]
    assert lines[-2:] == ["./dev test: 1 passed in 1.00s (exit code 0)", "1 passed in 1.00s"]
