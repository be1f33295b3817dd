"""`vcha systemd`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openvcha.cli.main import app
from openvcha.node.address.interface.installed import address_commands
from openvcha.node.service_manager import unit_files
from openvcha.node.service_manager.unit_files import Outcome

UNIT = "etc/systemd/system/openvcha-node@.service"


def run(*arguments: str, command: str = "install") -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["systemd", command, *arguments], prog_name="vcha")
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


def permit(root: Path, *arguments: str) -> tuple[int, str, str]:
    return run(*arguments, "--root", str(root), command="address")


def test_an_address_is_permitted_for_the_account_of_the_nodes(tmp_path: Path) -> None:
    """Whatever their names are: the helper's socket is named by the address."""
    for outcome in ("written", "unchanged"):
        code, out, err = permit(tmp_path, "2001:DB8::0A", "eth1", "--prefix", "64")
        assert (code, err) == (0, "")
        path = tmp_path / "etc/openvcha/address/2001:db8::a.json"
        assert f"{outcome}: {path}" in out
        assert "run:" not in out
        assert f"vcha node address {path}" in out
    assert json.loads(path.read_text()) == {
        "interface": "eth1",
        "address": "2001:db8::a",
        "prefix": 64,
        "lifetime": 6,
        "user": "openvcha",
        "socket": "/run/openvcha-address/2001:db8::a.sock",
        "node": "",
    }
    code, out, _ = permit(tmp_path, "192.0.2.10", "eth0", "--json", "--dry-run")
    assert (code, json.loads(out)["commands"]) == (0, [])
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "arguments",
    [
        ("192.0.2", "eth0"),
        ("127.0.0.1", "lo"),
        ("192.0.2.10", "eth0/../x"),
        ("192.0.2.10", "eth0", "--prefix", "33"),
        ("192.0.2.10", "eth0", "--lifetime", "11"),
        ("fe80::1%eth0/../../x", "eth0"),
    ],
)
def test_what_no_helper_could_hold_is_not_permitted(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Nothing is written."""
    code, _, err = permit(tmp_path, *arguments)
    assert (code, len(err.splitlines())) == (1, 1)
    assert list(tmp_path.iterdir()) == []


def test_an_address_has_one_helper(tmp_path: Path) -> None:
    """A second one would take the first one's socket; the first one is told, to be enabled."""
    folder = tmp_path / "etc/openvcha/address"
    permit(tmp_path, "192.0.2.10", "eth0")
    (folder / "192.0.2.10.json").rename(folder / "active.json")
    code, _, err = permit(tmp_path, "192.0.2.10", "eth1")
    assert code == 1
    assert "systemctl enable --now openvcha-address@active" in err
    assert permit(tmp_path, "192.0.2.11", "eth1")[0] == 0


def test_a_helper_is_restarted_only_for_another_configuration() -> None:
    """A restart lets go of an address that is held."""
    for outcome, verb in ((Outcome.WRITTEN, "restart"), (Outcome.UNCHANGED, "start")):
        enable, begin = address_commands("192.0.2.10", outcome)
        unit = "openvcha-address@192.0.2.10.service"
        assert (enable[1:], begin[1:]) == (("enable", unit), (verb, unit))


def test_only_root_permits_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of the nodes must not choose."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(unit_files, "install", _refuse)
    code, _, err = run("192.0.2.10", "eth0", command="address")
    assert code == 1
    assert "run this with sudo" in err
