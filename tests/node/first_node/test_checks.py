"""Everything that is checked before a first node is made. SIMULATED: the machine's answers."""

import ipaddress
import os
from pathlib import Path
from typing import Any

import pytest

from openvcha.node.engines import EngineMissing, EtcdProgram, Postgres
from openvcha.node.first_node import checks
from openvcha.node.first_node.checks import LEAST_FREE_BYTES, Account, examine_machine
from openvcha.node.first_node.findings import Verdict
from openvcha.node.first_node.identity import first_identity
from openvcha.node.first_node.machine import Machine, account_id, existing, port_refusal
from openvcha.node.first_node.netlink import MachineAddress
from openvcha.node.settings.table import NO, YES, Value, defaults

POSTGRES = Postgres(Path("/p/bin"), (15, 4), True, "system")
ETCD = EtcdProgram(Path("/e/etcd"), (3, 5, 9), "system")
ACCOUNT = Account(os.geteuid(), "own")


class Simulated(Machine):
    """A machine on which everything is as it should be, except what a test changes."""

    free = 10 << 30
    engines: Any = (POSTGRES, ETCD)

    def postgres(self, *_: Any) -> Postgres:
        if isinstance(self.engines[0], Exception):
            raise self.engines[0]
        return POSTGRES if self.engines[0] is None else self.engines[0]

    def etcd(self, *_: Any, lab: bool) -> EtcdProgram:
        found: EtcdProgram | Exception = self.engines[1]
        if isinstance(found, Exception):
            raise found
        if found.lab_only and not lab:
            raise EngineMissing("labs only")
        return found

    def free_bytes(self, path: Path) -> int:
        del path
        return self.free


def machine(**changed: Any) -> Simulated:
    addresses = (
        MachineAddress("eth0", ipaddress.ip_interface("192.0.2.11/28")),
        MachineAddress("eth1", ipaddress.ip_interface("198.51.100.11/24")),
    )
    answers: dict[str, Any] = {
        "addresses": lambda: addresses,
        "port_refusal": lambda *_: "",
        "synchronized": lambda: True,
        "locales": lambda: frozenset({"C", "de_DE.utf8"}),
    }
    return Simulated(**answers | changed)


def examined(
    directory: Path, where: Simulated | None = None, **changed: Value
) -> dict[str, list[str]]:
    """Return the texts of the findings by subject, with the verdict before each."""
    values: dict[str, Value] = {
        "node.directory": str(directory / "node"),
        "network.ha_address": "192.0.2.11",
        "network.public_address": "198.51.100.10",
    }
    changes = {key.replace("__", "."): value for key, value in changed.items()}
    found = examine_machine(
        defaults() | values | changes, where or machine(), ACCOUNT, loopback=False
    )
    texts: dict[str, list[str]] = {}
    for each in found.findings:
        texts.setdefault(each.subject, []).append(f"{each.verdict}: {each.text}")
    assert found.refused == any(each.verdict is Verdict.REFUSED for each in found.findings)
    return texts


def test_a_good_machine_is_told_so(tmp_path: Path) -> None:
    """One line for each subject."""
    found = examined(tmp_path)
    assert {key: len(texts) for key, texts in found.items()} == dict.fromkeys(
        ("addresses", "ports", "clock", "space", "directory", "postgresql", "etcd"), 1
    )
    assert all(text.startswith("OK: ") for texts in found.values() for text in texts)


def test_each_port_in_use_is_named(tmp_path: Path) -> None:
    """With its setting, and how to find the program."""
    busy = machine(port_refusal=lambda _, port: "Address in use" if port in {5432, 8443} else "")
    texts = examined(tmp_path, busy)["ports"]
    assert len(texts) == 3  # PostgreSQL's at both addresses
    assert all("REFUSED" in text and "ss -ltnp" in text for text in texts)
    assert "192.0.2.11 port 5432 (ports.postgres)" in texts[0]


def test_a_clock_that_is_wrong_or_free_running_is_told(tmp_path: Path) -> None:
    """Certificates would not be valid yet; the latter is only a note."""
    assert (
        "REFUSED: the clock is years behind"
        in examined(tmp_path, machine(now=lambda: 0.0))["clock"][0]
    )
    (text,) = examined(tmp_path, machine(synchronized=lambda: False))["clock"]
    assert text.startswith("NOTE: ")
    (text,) = examined(tmp_path, machine(synchronized=lambda: None))["clock"]
    assert text.startswith("OK: ")


def test_too_little_space_is_refused(tmp_path: Path) -> None:
    """Before the first database would not fit."""
    full = machine()
    object.__setattr__(full, "free", LEAST_FREE_BYTES - 1)
    assert "at least 512 MiB are needed" in examined(tmp_path, full)["space"][0]


def test_engines_that_are_missing_or_unfit_are_refused(tmp_path: Path) -> None:
    """Both at once."""
    none = machine()
    object.__setattr__(none, "engines", (EngineMissing("no p"), EngineMissing("no e")))
    found = examined(tmp_path, none)
    assert (found["postgresql"], found["etcd"]) == (["REFUSED: no p"], ["REFUSED: no e"])
    plain = machine()
    object.__setattr__(plain, "engines", (Postgres(Path("/p"), (15, 4), False, "system"), ETCD))
    assert "built without TLS" in examined(tmp_path, plain)["postgresql"][0]


def test_an_old_etcd_is_refused_until_it_is_accepted(tmp_path: Path) -> None:
    """With what it lacks; the node's identity then says that it was accepted."""
    old = machine()
    object.__setattr__(old, "engines", (POSTGRES, EtcdProgram(Path("/e"), (3, 4, 23), "system")))
    assert examined(tmp_path, old)["etcd"] == ["REFUSED: labs only"]
    (text,) = examined(tmp_path, old, etcd__accept_old="yes")["etcd"]
    assert text.startswith("NOTE: ")
    assert "in clear text" in text
    values = defaults() | {"network.ha_address": "192.0.2.11", "network.public_address": "::1"}
    for accepted in (NO, YES):
        values["etcd.accept_old"] = accepted
        made = first_identity(values, cluster_id="c", member="m")
        assert made.any_etcd == (accepted == YES)


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        ("C", None),
        ("POSIX", None),
        ("de_DE.UTF-8", "NOTE: de_DE.UTF-8 sorts text as"),
        ("fr_FR.UTF-8", "REFUSED: this machine has no locale fr_FR.UTF-8"),
    ],
)
def test_a_locale_must_be_installed(tmp_path: Path, locale: str, said: str | None) -> None:
    """In any spelling; what sorts differently elsewhere is a note."""
    found = examined(tmp_path, postgresql__locale=locale).get("locale")
    assert (found[0] if found else None) is said or (found and said and said in found[0])


def test_a_directory_with_files_is_refused(tmp_path: Path) -> None:
    """It could be somebody's data."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "x").touch()
    assert "is not empty" in examined(tmp_path)["directory"][0]


def test_what_is_no_data_directory_is_not_adopted(tmp_path: Path) -> None:
    """And no locale is asked for: the data have theirs."""
    found = examined(tmp_path, postgresql__adopt=str(tmp_path), postgresql__locale="xx")
    assert "is not a data directory" in found["adoption"][0]
    assert "locale" not in found


def test_preloaded_libraries_are_searched_where_postgresql_does(tmp_path: Path) -> None:
    """By name, by $libdir and by path."""
    postgres = Postgres(tmp_path / "bin", (15, 4), True, "system")
    (tmp_path / "lib").mkdir()
    for name in ("a", "b"):
        (tmp_path / "lib" / f"{name}.so").touch()
    wanted = ["a", "$libdir/b", str(tmp_path / "lib" / "a.so"), "c"]
    assert checks._installed(postgres, wanted) == wanted[:3]


def test_a_port_of_this_machine_is_tried(unused_tcp_port: int) -> None:
    """One that is free, one that listens, and an address of another machine."""
    import socket  # noqa: PLC0415 - for this test only

    assert port_refusal("127.0.0.1", unused_tcp_port) == ""
    assert port_refusal("192.0.2.250", 5432) == ""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "in use" in port_refusal("127.0.0.1", server.getsockname()[1])


def test_the_machine_knows_its_accounts_and_folders(tmp_path: Path) -> None:
    """Root exists everywhere; of a path, the nearest folder that exists counts."""
    assert account_id("root") == 0
    assert account_id("nobody-at-all") is None
    assert existing(tmp_path / "a" / "b") == tmp_path
