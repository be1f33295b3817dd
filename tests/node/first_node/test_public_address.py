"""The configuration of the helper that holds a first node's public address."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from openvcha.node.address.interface.helper_config import encode_config, find_config, read_config
from openvcha.node.first_node.findings import Verdict
from openvcha.node.first_node.public_address import check, file_for, helper_config, write
from openvcha.node.settings.table import Value, defaults

GOOD: dict[str, Value] = {
    **defaults(),
    "network.ha_address": "192.0.2.11",
    "network.ha_prefix": 28,
    "network.public_address": "198.51.100.10",
    "network.public_prefix": 24,
    "network.public_interface": "eth0",
    "network.public_lifetime": 4,
}


def values(directory: Path, **changed: Value) -> dict[str, Value]:
    changes = {key.replace("__", "."): value for key, value in changed.items()}
    return {**GOOD, "node.directory": str(directory / "node"), **changes}


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let root run the command, whoever runs the test."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_root_writes_what_the_helper_of_this_node_reads(tmp_path: Path) -> None:
    """Once more, it is replaced: the settings may have been corrected."""
    configs, wanted = tmp_path / "etc" / "address", values(tmp_path)
    assert [each.verdict for each in check(wanted, 5432, configs)] == [Verdict.OK]
    assert not configs.exists()
    for lifetime in (4, 6):
        write(wanted | {"network.public_lifetime": lifetime}, 5432, configs)
        found = read_config(file_for(wanted, configs))
        assert (found.interface, found.address, found.prefix) == ("eth0", "198.51.100.10", 24)
        assert (found.lifetime, found.user) == (lifetime, 5432)
        assert find_config(tmp_path / "node", configs) == file_for(wanted, configs)
        assert "will be replaced" in check(wanted, 5432, configs)[0].text
    assert file_for(wanted, configs).stat().st_mode & 0o777 == 0o644


def test_a_file_of_another_node_is_not_replaced(tmp_path: Path) -> None:
    """Nor one that cannot be read."""
    configs, wanted = tmp_path / "address", values(tmp_path)
    write(values(tmp_path / "other"), 5432, configs)
    (found,) = check(wanted, 5432, configs)
    assert found.verdict is Verdict.REFUSED
    assert "belongs to another node" in found.text
    file_for(wanted, configs).write_text("{")
    (found,) = check(wanted, 5432, configs)
    assert found.verdict is Verdict.REFUSED
    assert "delete it" in found.text


def test_others_than_root_are_told_what_root_must_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They write nothing; nor do they make a node that no client would reach."""
    configs, wanted = tmp_path / "address", values(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 5432)
    (found,) = check(wanted, 5432, configs)
    assert found.verdict is Verdict.REFUSED
    assert '"address": "198.51.100.10"' in found.text
    write(wanted, 5432, configs)
    assert not configs.exists()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    write(wanted, 5432, configs)
    monkeypatch.setattr(os, "geteuid", lambda: 5432)
    assert [each.verdict for each in check(wanted, 5432, configs)] == [Verdict.OK]
    (found,) = check(wanted | {"network.public_lifetime": 6}, 5432, configs)
    assert found.verdict is Verdict.REFUSED


def test_the_helper_of_the_machine_serves_its_first_node_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`vcha systemd address` has written a file for any node of the account, without a prefix."""
    configs, wanted = tmp_path / "address", values(tmp_path)
    configs.mkdir()
    config = helper_config(wanted, 5432)
    assert config is not None
    permitted = replace(config, node="", prefix=None)
    path = configs / "198.51.100.10.json"
    monkeypatch.setattr(os, "geteuid", lambda: 5432)
    for unfit in (
        replace(permitted, interface="eth1"),
        replace(permitted, user=5433),
        replace(permitted, socket="/run/openvcha-address/other.sock"),
        replace(permitted, node=str(tmp_path / "other")),
    ):
        path.write_bytes(encode_config(unfit))
        assert [each.verdict for each in check(wanted, 5432, configs)] == [Verdict.REFUSED], unfit
    path.write_bytes(encode_config(permitted))
    (found,) = check(wanted, 5432, configs)
    assert (found.verdict, found.text) == (Verdict.OK, f"{path} exists")


@pytest.mark.parametrize(
    "changed",
    [
        {"network__public_address": "127.83.1.10"},
        {"network__public_address": ""},
        {"network__public_interface": ""},
    ],
)
def test_an_address_that_is_on_no_interface_needs_no_helper(
    tmp_path: Path, changed: dict[str, Value]
) -> None:
    """A trial's is always there; another one is refused by the examination."""
    wanted = values(tmp_path, **changed)
    assert check(wanted, 5432, tmp_path) == []
    write(wanted, 5432, tmp_path)
    assert list(tmp_path.iterdir()) == []
