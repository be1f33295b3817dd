"""`vcha lab up`: its options, before anything is created. SIMULATED: nothing is brought up."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from openvcha.cli.lab import commands
from openvcha.cli.main import app
from openvcha.cli.options import PROGRAM
from openvcha.lab import up
from openvcha.lab.folders import VARIABLE
from openvcha.lab.settings import SettingsRequest
from openvcha.lab.state import Lab


def run(*arguments: str) -> tuple[int, str]:
    """Run the command; return its exit code and its errors."""
    done = CliRunner().invoke(app, ["lab", "up", *arguments], prog_name="vcha")
    return done.exit_code, done.stderr


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Return the settings with which labs were brought up."""
    calls: list[Any] = []
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.delenv(PROGRAM, raising=False)
    monkeypatch.setenv("COLUMNS", "100")

    def bring_up(*_: Any, settings: Any, **__: Any) -> None:
        calls.append(settings)
        raise KeyboardInterrupt

    # As root it would start again as another user.
    monkeypatch.setattr(commands, "new_lab_as_owner", lambda name, _: Lab(tmp_path / name))
    monkeypatch.setattr(up, "up", bring_up)
    return calls


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--leader-ttl", ("19", "301", "x")),
        ("--stuck-after", ("4", "3601", "inf", "nan")),
        ("--peers-after", ("2", "121", "inf", "nan")),
        ("--lag-after", ("0", "3601", "inf", "nan")),
        ("--api-workers", ("-1", "17", "x")),
    ],
)
def test_a_setting_that_no_node_accepts_is_refused(
    asked: list[Any], tmp_path: Path, option: str, values: tuple[str, ...]
) -> None:
    """Before the lab exists: it could never start."""
    for value in values:
        code, err = run(option, value)
        assert code == 2
        assert option in err
    assert asked == []
    assert list(tmp_path.iterdir()) == []


def test_what_continues_an_interrupted_up_has_its_options(asked: list[Any]) -> None:
    """The lab may not exist yet when it is interrupted."""
    given = ("--active-only", "--leader-ttl", "30", "--lag-after", "2.5", "--api-workers", "2")
    code, err = run(*given)
    assert code == 130
    assert f"`vcha lab up {' '.join(given)}` continues from here" in " ".join(err.split())
    assert asked == [SettingsRequest(leader_ttl=30, replication_lag=2.5, workers=2)]


def test_an_option_that_is_not_given_asks_for_nothing(asked: list[Any]) -> None:
    """Its default would be refused where a lab exists with another value."""
    run()
    assert asked == [SettingsRequest()]
