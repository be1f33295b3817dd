"""The machine: engines, dropping root, logs, locks, and the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.support.simulated.kept_cluster import IDENTITY
from typer.testing import CliRunner

from openvcha.cli.main import app
from openvcha.node import engines
from openvcha.node.doctor import DoctorVerdict, doctor
from openvcha.node.engines import (
    EngineDirectories,
    EngineMissing,
    Postgres,
    find_engines,
    find_etcd,
    find_postgres,
)
from openvcha.node.identity import save_identity
from openvcha.node.process.lock import NodeRuns, lock_node
from openvcha.node.process.logs import RotatingLog, logger, wrap
from openvcha.node.supervisor.supervisor import Supervisor
from openvcha.system.accounts.privileges import (
    CannotDropRoot,
    DropMethod,
    KeepAccount,
    SystemAccount,
    UserNamespace,
    choose,
)


@pytest.mark.parametrize(
    ("uid", "accounts", "namespaces", "way"),
    [
        (1000, set(), False, KeepAccount()),
        (0, {"openvcha", "nobody"}, True, SystemAccount("openvcha")),
        (0, {"nobody"}, True, UserNamespace()),
        (0, {"nobody"}, False, SystemAccount("nobody")),
    ],
)
def test_root_is_given_up_in_the_best_way(
    uid: int, accounts: set[str], namespaces: bool, way: DropMethod
) -> None:
    """Our own account, otherwise a user namespace, otherwise nobody."""
    assert choose(uid, accounts.__contains__, lambda: namespaces) == way


def test_root_that_cannot_be_given_up_is_told() -> None:
    """Without a way the node does not run as root: it says what would help."""
    with pytest.raises(CannotDropRoot, match="openvcha"):
        choose(0, lambda _: False, lambda: False)


def test_the_choice_of_engines_must_be_known() -> None:
    """A typing error in the environment is not taken for a choice."""
    with pytest.raises(EngineMissing, match="sytem"):
        find_etcd({engines.ENGINES_VARIABLE: "sytem"})


def _programs(directory: Path, **versions: str) -> str:
    """Create programs that print these versions, and return their directory."""
    directory.mkdir()
    for name, version in versions.items():
        program = directory / name
        program.write_text(f"#!/bin/sh\necho {name} {version}\n")
        program.chmod(0o755)
    return str(directory)


def test_a_chosen_directory_is_the_only_one(tmp_path: Path) -> None:
    """Whatever else is installed; what is not there or does not fit is refused with the reason."""
    new = _programs(tmp_path / "new", postgres="16.4", pg_basebackup="16.4", etcd="3.5.9")
    old = _programs(tmp_path / "old", postgres="13.4", pg_basebackup="13.4", etcd="3.3.1")
    found = find_engines({}, chosen=EngineDirectories(postgresql=new, etcd=new))
    assert (found.postgres.version, str(found.postgres.bin_dir)) == ((16, 4), new)
    assert (found.etcd.version, str(found.etcd.path)) == ((3, 5, 9), f"{new}/etcd")
    for chosen, major, said in (
        (old, None, "PostgreSQL 13.4, but PostgreSQL 14 or newer"),
        (new, 15, "PostgreSQL 16.4, but PostgreSQL 15 is needed"),
        (str(tmp_path), None, "no usable programs"),
    ):
        with pytest.raises(EngineMissing, match=said):
            find_postgres({}, major, chosen)
    with pytest.raises(EngineMissing, match="has no etcd"):
        find_etcd({}, chosen=old)


def test_missing_engines_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single error says what to install."""
    monkeypatch.setattr(engines, "_postgres_dirs", lambda _: [])
    monkeypatch.setattr(engines, "_etcd_path", lambda _: None)
    with pytest.raises(EngineMissing, match="install"):
        find_postgres({})
    with pytest.raises(EngineMissing, match="install"):
        find_etcd({})
    findings = {finding.subject: finding for finding in doctor({}, lambda: "not root")}
    assert findings["postgresql"].verdict is DoctorVerdict.MISSING
    assert findings["etcd"].verdict is DoctorVerdict.MISSING


@pytest.mark.engines
def test_data_choose_their_version() -> None:
    """For data of a missing version no other version is offered."""
    with pytest.raises(EngineMissing, match="PostgreSQL 13"):
        find_postgres({}, major=13)
    assert find_postgres({engines.ENGINES_VARIABLE: "system"}).has_tls


LEAKS, LOSES = "passwords of the store's accounts", "become inconsistent"


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ((3, 4, 23), LEAKS),
        ((3, 5, 0), LOSES),
        ((3, 5, 2), LOSES),
        ((3, 5, 3), ""),
        ((3, 6, 0), ""),
        ((4, 0, 0), ""),
    ],
)
def test_some_etcds_are_for_labs_only(
    version: tuple[int, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`vcha doctor` says why, and a node outside a lab does not start with them."""
    found = Path("/usr/bin/etcd")
    monkeypatch.setattr(engines, "_etcd_path", lambda source: found if source == "system" else None)
    monkeypatch.setattr(engines, "_version", lambda _: version)
    assert find_etcd({}).version == version
    (shown,) = [one for one in doctor({}, lambda: "not root") if one.subject == "etcd"]
    assert shown.verdict is (DoctorVerdict.LAB_ONLY if reason else DoctorVerdict.OK)
    assert reason in shown.text
    if not reason:
        assert find_etcd({}, lab=False).version == version
        return
    with pytest.raises(EngineMissing) as refused:
        find_etcd({}, lab=False)
    for part in (reason, "/usr/bin/etcd", "install etcd 3.5.3 or newer"):
        assert part in str(refused.value)


def test_outside_a_lab_an_embedded_etcd_does_for_a_system_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first that may be used is used."""
    versions = {"/usr/bin/etcd": (3, 4, 23), "/wheel/etcd": (3, 5, 9)}
    paths = dict(zip(("system", "embedded"), map(Path, versions), strict=True))
    monkeypatch.setattr(engines, "_etcd_path", paths.get)
    monkeypatch.setattr(engines, "_version", lambda path: versions[str(path)])
    assert find_etcd({}).source == "system"
    assert find_etcd({}, lab=False).source == "embedded"


@pytest.mark.parametrize(
    ("address", "lab"),
    [
        ("127.9.0.1", True),
        ("::1", True),
        ("192.0.2.7", False),
        ("2001:db8::7", False),
        ("node.example", False),
    ],
)
def test_a_node_is_in_a_lab_if_its_address_is_a_loopback_address(address: str, lab: bool) -> None:
    """Nobody else reaches it there."""
    assert msgspec.structs.replace(IDENTITY, ha_address=address).in_lab is lab


@pytest.mark.parametrize("address", ["127.1.1.1", "192.0.2.7"])
def test_only_in_a_lab_a_node_runs_with_an_etcd_for_labs(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere it is refused before anything is started."""
    postgres = Postgres(Path("/pg"), (15, 4), True, "system")
    monkeypatch.setattr(engines, "find_postgres", lambda *_: postgres)
    monkeypatch.setattr(engines, "_etcd_path", lambda _: Path("/usr/bin/etcd"))
    monkeypatch.setattr(engines, "_version", lambda _: (3, 4, 23))
    save_identity(tmp_path, msgspec.structs.replace(IDENTITY, ha_address=address))
    if address.startswith("127."):
        Supervisor(tmp_path)
        return
    with pytest.raises(EngineMissing, match="for labs only"):
        Supervisor(tmp_path)


def test_lines_become_json_and_json_stays() -> None:
    """Every line of a log is an object; one that already is stays unchanged."""
    assert wrap("etcd", b'{"level":"info"}') == b'{"level":"info"}'
    line = json.loads(wrap("patroni", b'say "x" \xff', lambda: "now"))
    assert line == {"time": "now", "part": "patroni", "line": 'say "x" \\xff'}
    assert json.loads(wrap("patroni", b'{"half'))["line"] == '{"half'


def test_a_log_is_rotated_by_size(tmp_path: Path) -> None:
    """The newest lines are in the file, older ones in numbered files, the oldest are deleted."""
    log = RotatingLog(tmp_path / "x.jsonl", max_bytes=20, max_files=2)
    for number in range(10):
        log.write(b"line %d..." % number)
    log.close()
    assert (tmp_path / "x.jsonl").read_bytes() == b"line 8...\nline 9...\n"
    assert (tmp_path / "x.jsonl.1").read_bytes() == b"line 6...\nline 7...\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "x.jsonl",
        "x.jsonl.1",
        "x.jsonl.2",
    ]
    assert (tmp_path / "x.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_does_not_stop_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that cannot be written are counted; the count is logged once there is space again."""
    log = RotatingLog(tmp_path / "x.jsonl")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        log.write(b"one")
        log.write(b"two")
    log.write(b"three")
    log.close()
    first, second = (tmp_path / "x.jsonl").read_bytes().splitlines()
    assert json.loads(first)["lost_lines"] == 2
    assert second == b"three"


def test_events_are_structured(tmp_path: Path) -> None:
    """An event has its time, its part and its fields; an exception has its trace."""
    log = RotatingLog(tmp_path / "x.jsonl")
    events = logger(log, "supervisor")
    events.info("started", pid=1)
    try:
        int("reason")
    except ValueError:
        events.exception("fails")
    log.close()
    first, second = map(json.loads, (tmp_path / "x.jsonl").read_text().splitlines())
    assert (first["event"], first["part"], first["pid"]) == ("started", "supervisor", 1)
    assert "ValueError: invalid" in second["exception"]


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    """While one process holds a node another is refused; afterwards it is free."""
    path = tmp_path / "run" / "lock"
    path.parent.mkdir()
    with lock_node(path), pytest.raises(NodeRuns, match="is already running"), lock_node(path):
        pass
    with lock_node(path):
        pass


def test_the_launcher_ends_without_its_word(tmp_path: Path) -> None:
    """When the supervisor exits before the data are there, Patroni never starts."""
    argv = [sys.executable, "-m", "openvcha.node.patroni.launcher", str(tmp_path / "patroni.yml")]
    result = subprocess.run(argv, input=b"", capture_output=True, timeout=300, check=False)
    assert result.returncode == 1
    assert b"before Patroni was allowed to start" in result.stderr


def test_status_of_a_node_that_never_ran(tmp_path: Path) -> None:
    """The exit code says that the node does not run, also with JSON."""
    (tmp_path / "node.json").write_text("{}")
    result = CliRunner().invoke(app, ["node", "status", str(tmp_path), "--json"])
    assert result.exit_code == 3
    assert json.loads(result.output) == {"running": False, "processes": [], "status": None}


def test_a_directory_without_identity_is_refused(tmp_path: Path) -> None:
    """One line says what is wrong, without a traceback."""
    argv = [sys.executable, "-m", "openvcha", "node", "run", str(tmp_path)]
    result = subprocess.run(argv, capture_output=True, timeout=300, check=False, env=os.environ)
    assert result.returncode == 1
    assert b"cannot run the node in" in result.stderr
    assert b"Traceback" not in result.stderr
