"""The files with which systemd runs nodes."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openvcha.node.process.reaper import GRACEFUL_SECONDS
from openvcha.node.service_manager.unit_files import (
    CREATE,
    Outcome,
    UnusablePath,
    commands_after,
    install,
    installed_files,
)
from openvcha.node.supervisor.plan import PATRONI_STOP_SECONDS

VCHA = Path("/usr/local/lib/openvcha/bin/vcha")
NODE = "etc/systemd/system/openvcha-node@.service"
ADDRESS = "etc/systemd/system/openvcha-address@.service"


def texts(*, ssh: bool = True, program: Path = VCHA) -> dict[str, str]:
    return {file.path: file.content.decode() for file in installed_files(program, ssh=ssh)}


def section(name: str, of: str = NODE) -> dict[str, str]:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[method-assign,assignment]  # names are case-sensitive
    unit.read_string(texts()[of])
    return dict(unit[name])


def test_no_placeholder_is_left() -> None:
    """In any file."""
    assert not [path for path, text in texts().items() if re.search(r"@[A-Z]+@", text)]
    assert section("Service")["ExecStart"].startswith(f"{VCHA} node bootstrap ")


def test_the_nodes_account_and_directories_are_made_without_access_by_ssh() -> None:
    """Access by SSH is only added when it is asked for."""
    assert sorted(texts(ssh=False)) == [
        "etc/systemd/system/openvcha-address.target",
        "etc/systemd/system/openvcha-address@.service",
        "etc/systemd/system/openvcha-node@.service",
        "etc/sysusers.d/openvcha.conf",
        "etc/tmpfiles.d/openvcha.conf",
    ]
    assert sorted(texts().keys() - texts(ssh=False).keys()) == [
        "etc/ssh/sshd_config.d/openvcha.conf",
        "etc/sudoers.d/openvcha",
    ]


def test_only_the_helper_has_privileges() -> None:
    """Two that it keeps, and those with which it drops the others; a node has none."""
    assert section("Service")["CapabilityBoundingSet"] == ""
    assert section("Service")["User"] == "openvcha"
    helper = section("Service", ADDRESS)
    own = {"CAP_NET_ADMIN", "CAP_NET_RAW"}
    assert set(helper["CapabilityBoundingSet"].split()) - own == {
        *("CAP_CHOWN", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID")
    }
    assert helper["NoNewPrivileges"] == "yes"


def test_a_node_starts_after_the_helpers_of_its_machine() -> None:
    """That of its own name, and each that root has enabled for an address: any node uses those."""
    target, own = "openvcha-address.target", "openvcha-address@%i.service"
    assert section("Unit", ADDRESS)["Before"].split() == [target, "openvcha-node@%i.service"]
    assert target in section("Install", ADDRESS)["WantedBy"].split()
    for name in ("After", "Wants"):
        assert {own, target} <= set(section("Unit")[name].split())


def test_systemd_leaves_a_node_the_time_to_stop() -> None:
    """A restart must not kill what the reaper still stops in order, nor a stop Patroni."""
    service = section("Service")
    assert service["KillMode"] == "process"
    assert float(service["RestartSec"]) > GRACEFUL_SECONDS + 2
    assert float(service["TimeoutStopSec"]) > PATRONI_STOP_SECONDS + 30
    assert (service["Restart"], section("Unit")["StartLimitIntervalSec"]) == ("always", "0")


@pytest.mark.parametrize("program", ["vcha", "/a b/vcha", "/a%n/vcha", "/a\nb", '/a"', "/a*"])
def test_a_program_whose_path_means_something_else_is_refused(program: str) -> None:
    """To systemd or to sudo; a relative one too."""
    with pytest.raises(UnusablePath, match="--program"):
        texts(program=Path(program))


ALLOWED = re.compile(r"NOPASSWD: (\S+) (\^.*\$)$", re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ("start openvcha-node@passive-2.service", True),
        ("stop openvcha-node@vm-12.service", True),
        ("enable openvcha-node@a.b_c.service", True),
        ("kill -s KILL openvcha-node@vm-12.service", True),
        ("start openvcha-node@a.service ssh.service", False),
        ("start ssh.service openvcha-node@a.service", False),
        ("start openvcha-node@../x.service", False),
        ("start openvcha-node@.service", False),
        ("start --root=/tmp openvcha-node@a.service", False),
        ("stop openvcha-node@a.service\nssh.service", False),
        ("edit openvcha-node@a.service", False),
        ("link /tmp/openvcha-node@a.service", False),
        ("stop ssh.service", False),
        ("openvcha-node@a.service", False),
        ("", False),
    ],
)
def test_the_sudo_rule_is_for_nodes_only(arguments: str, allowed: bool) -> None:
    """sudo compares all arguments, joined by spaces, with the pattern."""
    rules = ALLOWED.findall(texts()["etc/sudoers.d/openvcha"])
    assert {command for command, _ in rules} == {"/usr/bin/systemctl"}
    assert len(rules) == texts()["etc/sudoers.d/openvcha"].count("NOPASSWD")
    found = [pattern for _, pattern in rules if re.fullmatch(pattern[1:-1], arguments)]
    assert bool(found) is allowed


def test_installing_again_changes_nothing(tmp_path: Path) -> None:
    """It repairs what somebody has changed, also a mode that makes sudo ignore a file."""
    files = {file.path: file for file in installed_files(VCHA, ssh=True)}
    assert {install(tmp_path, file) for file in files.values()} == {Outcome.WRITTEN}
    assert {install(tmp_path, file) for file in files.values()} == {Outcome.UNCHANGED}
    sudoers = tmp_path / "etc/sudoers.d/openvcha"
    assert sudoers.stat().st_mode & 0o777 == 0o440
    sudoers.chmod(0o644)
    (tmp_path / NODE).write_text("edited")
    changed = [path for path, file in files.items() if install(tmp_path, file) is Outcome.WRITTEN]
    assert sorted(changed) == sorted([NODE, "etc/sudoers.d/openvcha"])
    assert sudoers.stat().st_mode & 0o777 == 0o440


def test_systemd_is_told_only_where_it_runs() -> None:
    """The account and the directories are made everywhere."""
    assert commands_after(ssh=True, systemd_runs=False) == CREATE
    assert len(commands_after(ssh=False, systemd_runs=True)) == 3
    assert len(commands_after(ssh=True, systemd_runs=True)) == 4


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", [NODE, ADDRESS])
def test_systemd_understands_the_units(tmp_path: Path, unit: str) -> None:
    """With the program of this environment, which exists."""
    own = Path(sys.prefix, "bin", "vcha")
    for file in installed_files(own, ssh=False):
        install(tmp_path, file)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    mine = [line for line in done.stderr.splitlines() if "openvcha" in line]
    assert (done.returncode, mine) == (0, [])
