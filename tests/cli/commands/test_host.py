"""`vcha host prepare`."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from openvcha.cli.commands import host
from openvcha.cli.main import app
from openvcha.infrastructure.hosts.checks import DATASTORE, WHEELS
from openvcha.infrastructure.hosts.commands import Outcome

BARE = f"""\
now\t1
uid\t0
os\tdebian 13
space\t99999999 {DATASTORE}
end\t1
"""


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["host", "prepare", *arguments], prog_name="vcha", input=stdin)
    return done.exit_code, done.stdout, done.stderr


class SimulatedHost:
    """A host without anything; commands change nothing. ``ran`` has what was run."""

    def __init__(self) -> None:
        self.said = BARE
        self.ran: list[str] = []
        self.fails = "nothing"
        self.copied = b""

    async def __call__(
        self, command: str, *, stdin: bytes = b"", seconds: float | None = None
    ) -> Outcome:
        assert seconds
        self.ran.append(command)
        self.copied = stdin or self.copied
        if "Looks at this machine" in command:
            return Outcome(0, self.said, "")
        return Outcome(100, "", "E: broken") if self.fails in command else Outcome(0, "", "")


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> SimulatedHost:
    made = SimulatedHost()
    monkeypatch.setattr(host, "run_here", made)
    return made


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    (tmp_path / "openvcha-1-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "requirements.txt").write_text("openvcha==1\n")
    return tmp_path


def test_without_install_it_only_says_what_to_type(simulated: SimulatedHost) -> None:
    """As root, in order; and how to let it be done."""
    code, out, _ = run()
    assert code == 1
    assert "MISSING  postgresql  no PostgreSQL 14 or newer" in out
    assert "Run on this machine, as root:\n  mkdir -p" in out
    assert "vcha host prepare --install --wheelhouse" in out
    assert len(simulated.ran) == 1


def test_as_json_for_programs(simulated: SimulatedHost) -> None:
    """With the same exit code, and nothing else on the output."""
    code, out, _ = run("--json")
    found: dict[str, Any] = json.loads(out)
    assert (code, found["ready"], found["host"]) == (1, False, None)
    assert {each["verdict"] for each in found["findings"]} >= {"MISSING", "OK"}
    assert any("apt-get" in command for command in found["commands"])
    assert len(simulated.ran) == 1


def test_installing_runs_what_a_person_would_type(simulated: SimulatedHost, wheels: Path) -> None:
    """Then it looks again: only that decides whether the host is ready."""
    _, out, _ = run("--json")
    typed = json.loads(out)["commands"]
    simulated.ran.clear()
    code, out, _ = run("--install", "--wheelhouse", str(wheels))
    assert code == 1
    look, copy, *commands, again = simulated.ran
    assert look == again
    assert WHEELS in copy
    assert b"openvcha==1" in simulated.copied
    assert len(commands) == len(typed)
    assert [line for line in typed if line not in out] == []


def test_an_installation_stops_at_the_first_failure(simulated: SimulatedHost, wheels: Path) -> None:
    """Its words are shown; whoever repeats it continues."""
    simulated.fails = "apt-get update"
    code, _, err = run("--install", "--wheelhouse", str(wheels))
    assert code == 1
    assert "`apt-get update` failed: E: broken" in err
    assert "apt-get update" in simulated.ran[-1]


@pytest.mark.parametrize(
    ("said", "arguments", "told"),
    [
        (BARE.replace("uid\t0", "uid\t1000"), ["--install"], "only root can install"),
        (
            BARE.replace("debian 13", "fedora 43"),
            ["--install"],
            "Debian and Ubuntu, not fedora",
        ),
        (BARE, ["--install"], "use --wheelhouse"),
        (BARE.replace("end", ""), [], "the look at the host failed"),
        (BARE, ["a b"], "is not valid"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is(
    simulated: SimulatedHost, said: str, arguments: list[str], told: str
) -> None:
    """In one line."""
    simulated.said = said
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert told in err
    assert len(simulated.ran) <= 1


def test_a_folder_that_is_no_wheelhouse_is_not_copied(
    simulated: SimulatedHost, tmp_path: Path
) -> None:
    """Nothing else is done on the host either."""
    code, _, err = run("--install", "--wheelhouse", str(tmp_path))
    assert code == 1
    assert "is not a wheelhouse" in err
    assert len(simulated.ran) == 1


def test_a_host_that_has_everything_is_ready(simulated: SimulatedHost, wheels: Path) -> None:
    """Exit code 0, and an installation does nothing."""
    simulated.said = "\n".join(
        [
            *(
                f"now\t{time.time()}",
                "uid\t0",
                "os\tdebian 13",
                "python\t/usr/bin/python3 3.13.5 venv",
            ),
            *("postgresql\t/p psql 17.6", "etcd\t/usr/bin/etcd etcd 3.5.16", "firewall\tread"),
            *(f"space\t99999999 {DATASTORE}", "openvcha\t1", "account\to", "unit_file\tt"),
            f"end\t{time.time()}",
        ]
    )
    code, out, err = run("--install", "--wheelhouse", str(wheels))
    assert (code, err) == (0, ""), out
    assert "as root:" not in out
    assert len(simulated.ran) == 1
