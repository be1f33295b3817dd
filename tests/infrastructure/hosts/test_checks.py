"""Whether a host is ready, and what to type on it if it is not."""

import subprocess
from typing import Any

import pytest
from msgspec.structs import replace

from openvcha.infrastructure.hosts.checks import (
    DATASTORE,
    Finding,
    Verdict,
    Wanted,
    check,
    commands,
    is_ready,
)
from openvcha.infrastructure.hosts.survey import Clock, Listener, Program, Python, Survey, Unit

READY = Survey(
    uid=0,
    system="debian 13",
    clock=Clock(0.01, 0.02),
    pythons=(Python("/usr/bin/python3", (3, 13, 5), venv=True),),
    postgres=(Program("/usr/lib/postgresql/17/bin", (17, 6)),),
    etcd=Program("/usr/bin/etcd", (3, 5, 16)),
    listeners=(Listener(22, "0.0.0.0", "sshd"),),
    systemd_runs=True,
    units=(Unit("etcd", "disabled", "inactive"), Unit("postgresql", "disabled", "inactive")),
    firewall_readable=True,
    free={DATASTORE: 100 << 30},
    openvcha="0.1.0",
    account=True,
    unit_file=True,
)


def found(subject: str, **changes: Any) -> Finding:
    return next(each for each in check(replace(READY, **changes)) if each.subject == subject)


def test_a_host_that_has_everything_is_ready() -> None:
    """There is nothing to type."""
    findings = check(READY)
    assert {finding.verdict for finding in findings} == {Verdict.OK}
    assert (is_ready(findings), commands(findings)) == (True, [])


@pytest.mark.parametrize(
    ("subject", "changes", "verdict", "text"),
    [
        ("python", {"pythons": ()}, Verdict.MISSING, "no Python 3.11"),
        ("python", {"pythons": (Python("p", (3, 9)),)}, Verdict.MISSING, "no Python 3.11"),
        ("python", {"pythons": (Python("p", (3, 11)),)}, Verdict.MISSING, "lacks venv"),
        ("postgresql", {"postgres": ()}, Verdict.MISSING, "no PostgreSQL 14"),
        ("postgresql", {"postgres": (Program("p", (13, 9)),)}, Verdict.MISSING, "no PostgreSQL"),
        ("etcd", {"etcd": None}, Verdict.MISSING, "no etcd 3.5.3"),
        ("etcd", {"etcd": Program("e", (3, 5, 2))}, Verdict.MISSING, "older than 3.5.3"),
        ("clock", {"clock": None}, Verdict.UNKNOWN, "did not report"),
        ("clock", {"clock": Clock(-9, 1)}, Verdict.MISSING, "9.00 s behind"),
        ("clock", {"clock": Clock(9, 5)}, Verdict.WARNING, "9.00 s ahead"),
        ("clock", {"clock": Clock(9, 8.9)}, Verdict.OK, "(± 8.90 s)"),
        ("units", {"units": (Unit("etcd", "enabled", "inactive"),)}, Verdict.MISSING, "etcd.serv"),
        ("units", {"units": (Unit("postgresql", "x", "active"),)}, Verdict.MISSING, "postgresql"),
        (
            "ports",
            {"listeners": (Listener(5432, "127.0.0.1", "postgres"),), "openvcha": ""},
            Verdict.MISSING,
            "TCP 5432 (PostgreSQL) is taken by postgres at 127.0.0.1",
        ),
        ("ports", {"listeners": (Listener(2379, "::"),)}, Verdict.WARNING, "is taken at ::"),
        ("firewall", {"firewall_readable": False}, Verdict.UNKNOWN, "only root"),
        (
            "firewall",
            {"iptables": (":INPUT DROP [0:0]", "COMMIT")},
            Verdict.WARNING,
            "2379, 2380, 5432, 8008, 8443",
        ),
        ("space", {"free": {}}, Verdict.UNKNOWN, "unknown"),
        ("space", {"free": {DATASTORE: 1 << 30}}, Verdict.MISSING, "a node needs 4.0 GiB"),
        ("openvcha", {"openvcha": ""}, Verdict.MISSING, "wheelhouse"),
        ("systemd", {"account": False}, Verdict.MISSING, "no account openvcha"),
        ("systemd", {"unit_file": False}, Verdict.MISSING, "no unit"),
    ],
)
def test_each_lack_is_found(
    subject: str, changes: dict[str, Any], verdict: Verdict, text: str
) -> None:
    """And only what is missing keeps a host from being ready."""
    finding = found(subject, **changes)
    assert finding.verdict is verdict
    assert text in finding.text
    assert is_ready([finding]) is (verdict is not Verdict.MISSING)


def test_an_empty_host_gets_its_packages_at_once() -> None:
    """Debian's own database and store must not be left running at our ports."""
    typed = commands(check(Survey(uid=0, system="debian 13", free={DATASTORE: 100 << 30})))
    install = next(at for at, line in enumerate(typed) if "apt-get install -y" in line)
    assert typed[install].endswith("python3-venv postgresql etcd-server")
    assert "create_main_cluster = false" in typed[install - 2]
    assert typed[install - 1] == "apt-get update"
    assert "systemctl disable --now etcd.service postgresql.service" in typed[install + 1]
    assert [line.split()[0] for line in typed[install + 2 :]] == [
        "python3",
        "/usr/local/lib/openvcha/bin/pip",
        "/usr/local/lib/openvcha/bin/vcha",
    ]


def test_a_system_whose_etcd_is_too_old_is_not_told_to_install_it() -> None:
    """It would be refused afterwards."""
    old = found("etcd", etcd=None, system="debian 12")
    assert (old.verdict, old.commands) == (Verdict.MISSING, ())
    assert "/usr/local/bin" in old.text


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ((3, 3, 1), Verdict.MISSING),
        ((3, 4, 23), Verdict.WARNING),
        ((3, 5, 2), Verdict.WARNING),
        ((3, 5, 3), Verdict.OK),
    ],
)
def test_an_old_etcd_may_be_accepted(version: tuple[int, ...], verdict: Verdict) -> None:
    """As the cluster does; one that is older still does not work."""
    accepting = Wanted(old_etcd=True)
    (etcd,) = [
        each
        for each in check(replace(READY, etcd=Program("e", version)), accepting)
        if each.subject == "etcd"
    ]
    assert etcd.verdict is verdict
    (none,) = [
        each
        for each in check(replace(READY, etcd=None, system="debian 12"), accepting)
        if each.subject == "etcd"
    ]
    assert (none.verdict, len(none.commands)) == (Verdict.MISSING, 1)


def test_what_the_shell_gets_is_a_command() -> None:
    """Each line can be typed."""
    for line in commands(check(Survey(units=(Unit("etcd", "enabled", "active"),)))):
        subprocess.run(["sh", "-n", "-c", line], check=True)


def test_other_ports_and_another_datastore_can_be_wanted() -> None:
    """As the host's own settings say."""
    wanted = Wanted(datastore="/srv", ports={22: "SSH"}, min_free=1)
    findings = {each.subject: each for each in check(replace(READY, free={"/srv": 5}), wanted)}
    assert findings["space"].verdict is Verdict.OK
    assert "TCP 22 (SSH) is taken by sshd" in findings["ports"].text
