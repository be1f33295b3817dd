"""`vcha config`: what it prints, and how it exits."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openvcha.cli.main import app
from openvcha.cli.node import config
from openvcha.node.settings.table import SETTINGS


def vcha(*words: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["config", *map(str, words)], prog_name="vcha")
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "openvcha.toml"
    path.write_text("[ports]\napi = 9443\n")
    return path


def test_check_says_that_a_file_is_good(file: Path) -> None:
    """With the number of settings, so that an empty file is noticed."""
    assert vcha("check", "--config", file) == (0, f"{file}: 1 settings, no errors\n", "")


def test_check_prints_each_error_on_a_line(file: Path) -> None:
    """On standard error, and fails."""
    file.write_text("[ports]\napi = 1\nx = 2\n")
    code, out, err = vcha("check", "--config", file)
    assert (code, out) == (1, "")
    assert [line.split(": ")[1] for line in err.splitlines()] == [f"{file}:2", f"{file}:3"]


def test_check_without_a_file_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual one may be missing: then there is nothing to check."""
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "none")
    code, _, err = vcha("check")
    assert code == 1
    assert f"{tmp_path / 'none'} cannot be read: No such file" in err


def test_show_without_a_file_shows_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But one that is named must be there."""
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "none")
    code, out, _ = vcha("show")
    assert code == 0
    assert "timers.leader_ttl = 20 seconds (default)" in out
    assert len(out.splitlines()) == len(SETTINGS)
    assert vcha("show", "--config", tmp_path / "none")[0] == 1


def test_show_tells_where_a_value_is_from(file: Path) -> None:
    """Also for programs, with errors beside the values."""
    assert f"ports.api = 9443 ({file})" in vcha("show", "--config", file)[1]
    code, out, _ = vcha("show", "--config", file, "--json")
    shown = json.loads(out)
    expected = {"value": 9443, "default": 8443, "unit": None, "source": str(file)}
    assert (code, shown["errors"]) == (0, [])
    assert shown["settings"]["ports.api"] == expected
    file.write_text("[ports]\napi = 1\n")
    code, out, err = vcha("show", "--config", file, "--json")
    assert (code, len(json.loads(out)["errors"]), err) == (1, 1, "")


def test_default_prints_a_file_that_check_accepts(tmp_path: Path) -> None:
    """It is the start of a file of one's own."""
    code, out, _ = vcha("default")
    path = tmp_path / "openvcha.toml"
    path.write_text(out)
    assert code == 0
    assert vcha("check", "--config", path)[1] == f"{path}: 0 settings, no errors\n"
