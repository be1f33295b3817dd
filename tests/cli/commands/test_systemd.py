"""`vcha systemd install`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openvcha.cli.main import app
from openvcha.node.service_manager import unit_files

UNIT = "etc/systemd/system/openvcha-node@.service"


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["systemd", "install", *arguments], prog_name="vcha")
    return done.exit_code, done.stdout, done.stderr


def test_the_files_come_below_another_root(tmp_path: Path) -> None:
    """There no command of this machine's systemd is run."""
    words = ("--root", str(tmp_path), "--program", "/usr/bin/vcha")
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert f"written: {tmp_path / UNIT}" in out
    assert "run:" not in out
    assert "ExecStart=/usr/bin/vcha node bootstrap" in (tmp_path / UNIT).read_text()
    assert not (tmp_path / "etc/sudoers.d").exists()
    code, out, _ = run(*words, "--ssh", "--json")
    outcomes = {each["path"]: each["outcome"] for each in json.loads(out)["files"]}
    assert outcomes[str(tmp_path / UNIT)] == "unchanged"
    assert outcomes[str(tmp_path / "etc/sudoers.d/openvcha")] == "written"


def test_a_dry_run_shows_all_and_does_nothing(tmp_path: Path) -> None:
    """Not even for this machine's own root."""
    code, out, _ = run("--root", str(tmp_path), "--program", "/usr/bin/vcha", "--dry-run")
    assert code == 0
    assert "    Type=notify" in out
    assert list(tmp_path.iterdir()) == []
    installed = Path("/", UNIT)
    before = installed.stat() if installed.exists() else None
    code, out, _ = run("--program", "/usr/bin/vcha", "--dry-run")
    assert code == 0
    assert "to run: systemd-sysusers openvcha.conf" in out
    assert (installed.stat() if installed.exists() else None) == before


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """In one line, with the exit code of a failure."""
    (tmp_path / "etc").write_text("no directory")
    code, _, err = run("--root", str(tmp_path), "--program", "/usr/bin/vcha")
    assert code == 1
    assert len(err.splitlines()) == 1


def _refuse(*_: object) -> None:
    raise AssertionError("it would have been written into this machine")


def test_only_root_installs_into_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another account learns how, before anything is written."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(unit_files, "install", _refuse)
    code, out, err = run("--program", "/usr/bin/vcha")
    assert (code, out) == (1, "")
    assert "run this with sudo" in err
