"""A thief writes Patroni's dynamic configuration: the real Patroni runs no command from it."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.support import patroni_commands
from tests.support.node_files import equal_secrets, identity

from openvcha.node.engines import Postgres
from openvcha.node.layout import Layout
from openvcha.node.patroni.config import patroni_config
from openvcha.node.patroni.patches.no_commands import install
from openvcha.store.patroni.dynamic import LONGEST_SHOWN, MOST_SHOWN, sift

POSTGRES = Postgres(Path("/pg/bin"), (15, 4), has_tls=True, source="system")

Config = Callable[[], Any]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.pgdata.mkdir()
    own, endpoints = identity("a-1"), ["https://127.1.1.1:2379"]
    written = patroni_config(own, equal_secrets(), layout, POSTGRES, endpoints)
    layout.patroni_config.write_bytes(written)
    return layout


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return Patroni with the guard, as the launcher starts it."""
    dcs, config = import_module("patroni.dcs"), import_module("patroni.config")
    original = dcs.ClusterConfig.from_node
    monkeypatch.setattr(dcs.ClusterConfig, "from_node", staticmethod(original))
    whole = config.Config
    monkeypatch.setattr(whole, "set_dynamic_configuration", whole.set_dynamic_configuration)
    install()


def patroni(layout: Layout) -> Any:
    """Return the configuration of a Patroni that is starting."""
    return import_module("patroni.config").Config(str(layout.patroni_config), validator=_valid)


def _valid(_: dict[str, Any]) -> list[str]:
    return []


def stored(fields: dict[str, Any]) -> Any:
    """Return what Patroni reads from etcd."""
    return import_module("patroni.dcs").ClusterConfig.from_node("7", json.dumps(fields))


def local(layout: Layout) -> dict[str, Any]:
    return dict(json.loads(layout.patroni_config.read_bytes()))


def effect(found: Any, layout: Layout) -> list[str]:
    """Return which of the effective settings a thief's configuration has changed."""
    untouched = patroni(layout)
    untouched.set_dynamic_configuration({**local(layout)["bootstrap"]["dcs"]})
    before, after = untouched.copy(), found.copy()
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    if "postgresql" in changed:
        old, new = before["postgresql"], after["postgresql"]
        changed |= {name for name in {*old, *new} if old.get(name) != new.get(name)}
    return sorted(changed)


def test_without_the_guard_a_thief_has_his_way(layout: Layout) -> None:
    """Proves that the tests below would detect the attack, and why the guard exists."""
    found = patroni(layout)
    fields = patroni_commands.settings()
    del fields["ttl"]  # Patroni itself rejects the whole configuration for it
    found.set_dynamic_configuration(stored(fields))
    changed = effect(found, layout)
    assert {"callbacks", "create_replica_methods", "pre_promote", "before_stop"} <= set(changed)
    parameters = found["postgresql"]["parameters"]
    assert parameters["archive_command"] == patroni_commands.command(patroni_commands.MARKER)
    assert parameters["shared_preload_libraries"] == "thief"


@pytest.mark.usefixtures("guarded")
def test_no_command_of_the_store_is_taken(layout: Layout) -> None:
    """All at once beside valid settings: only the valid ones take effect."""
    right = local(layout)["bootstrap"]["dcs"]
    wrong = patroni_commands.settings()
    both = {**wrong, **right, "postgresql": {**wrong["postgresql"], **right["postgresql"]}}
    both["postgresql"]["parameters"] = {
        **wrong["postgresql"]["parameters"],
        **right["postgresql"]["parameters"],
    }
    found = patroni(layout)
    found.set_dynamic_configuration(stored(both))
    assert effect(found, layout) == []


@pytest.mark.usefixtures("guarded")
def test_no_command_comes_by_the_copy_beside_the_data(layout: Layout) -> None:
    """`patroni.dynamic.json` is read at each start, before anything from the store."""
    cache = layout.pgdata / "patroni.dynamic.json"
    right = local(layout)["bootstrap"]["dcs"]
    wrong = patroni_commands.settings()["postgresql"]
    cache.write_text(json.dumps({**right, "postgresql": {**wrong, **right["postgresql"]}}))
    assert effect(patroni(layout), layout) == []


@pytest.mark.usefixtures("guarded")
def test_what_is_no_object_is_nothing(layout: Layout) -> None:
    """Patroni then keeps the configuration it has."""
    found = patroni(layout)
    for value in ("[]", "7", "{", '"x"', "null", '{"postgresql": 1}', '{"postgresql": [1]}'):
        read = import_module("patroni.dcs").ClusterConfig.from_node("7", value)
        assert read.data == {}
    assert found["postgresql"]["use_slots"] is True


def test_each_single_one_is_refused_by_its_name() -> None:
    """And reported, so that a person learns of it."""
    fields = patroni_commands.settings()
    for name in patroni_commands.names(fields):
        value, single = _single(fields, name)
        assert value is not None
        assert sift(single).refused == (name[:LONGEST_SHOWN],), name


def _single(fields: dict[str, Any], name: str) -> tuple[Any, dict[str, Any]]:
    parts = name.split(".")
    value: Any = fields
    for part in parts:
        value = value[part]
    single: Any = value
    for part in reversed(parts):
        single = {part: single}
    return value, single


def test_what_the_cluster_sets_itself_passes() -> None:
    """Everything that a first node writes, and every setting of a mode."""
    layout = Layout(Path("/srv/a"))
    written = json.loads(patroni_config(identity("a-1"), equal_secrets(), layout, POSTGRES, []))
    first = written["bootstrap"]["dcs"]
    modes = {"pause": True, "openvcha_alone": True, "openvcha_detached": True}
    both = {**first, **modes, "failsafe_mode": True, "primary_start_timeout": 300}
    both["ignore_slots"] = [{"name": "cdc", "type": "logical", "plugin": "pgoutput"}]
    assert sift(both).refused == ()
    assert sift(both).kept == both


@pytest.mark.parametrize(
    "value",
    ["1; touch x", "$(x)", "1'\ninclude '/tmp/x'", "1\narchive_command = 'x'", [1], {"a": 1}, None],
    ids=str,
)
def test_a_number_is_a_number(value: Any) -> None:
    """Patroni writes values into postgresql.conf."""
    fields = {"postgresql": {"parameters": {"max_connections": value}}}
    assert sift(fields).refused == ("postgresql.parameters.max_connections",)


def test_what_is_told_is_bounded() -> None:
    """A thief may write a megabyte."""
    refused = sift({f"{number:04}{'x' * 5000}": 1 for number in range(500)}).refused
    assert len(refused) == MOST_SHOWN
    assert max(map(len, refused)) <= LONGEST_SHOWN
