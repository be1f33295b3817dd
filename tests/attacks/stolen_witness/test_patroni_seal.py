"""A thief writes the keys that Patroni reads: the real Patroni sees none of it."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from openvcha.api.secret import Secret
from openvcha.node.patroni.patches.seals import Sealing, install
from openvcha.store import keys
from openvcha.store.interface import KeyValue
from openvcha.store.sealing.seal import FIELD, RESERVED, KeyVersion, Seals

SEALS = Seals(lambda: [Secret("a key of the data nodes")])
THIEF = Seals(lambda: [Secret("a key of nobody")])
DYNAMIC = {"ttl": 20, "synchronous_mode": True}
HOME, HOST = "https://127.1.1.1:8008/patroni", "https://thief:8008/patroni"


class EtcdOfPatroni:
    """Patroni's etcd client, with one key."""

    def __init__(self) -> None:
        self.kv: dict[str, Any] | None = None
        self.revision = 10
        self.config_path = keys.PATRONI_CONFIG
        self._name = "a-1"
        self._client = self
        self.told: dict[str, Any] = {}
        self.between: Callable[[], None] = lambda: None

    def handle_etcd_exceptions(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(self, *arguments)

    def handle_auth_errors(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(self, *arguments, retry=None)

    def call_rpc(self, path: str, fields: dict[str, Any], _: None) -> dict[str, Any]:
        assert path == "/kv/range"
        assert b64decode(fields["key"]).decode() == keys.PATRONI_CONFIG
        found = [] if self.kv is None else [dict(self.kv)]
        self.between()
        return {"kvs": found}

    def put(
        self,
        key: str,
        value: str,
        create_revision: str | None = None,
        mod_revision: str | None = None,
    ) -> bool:
        assert key == keys.PATRONI_CONFIG
        found = self.kv or {"create_revision": "0", "mod_revision": "0", "version": "0"}
        if create_revision is not None and found["create_revision"] != create_revision:
            return False
        if mod_revision is not None and found["mod_revision"] != mod_revision:
            return False
        self.write(value)
        return True

    def write(self, value: str) -> None:
        """Write as any holder of a certificate can."""
        self.revision += 1
        old = self.kv or {"create_revision": str(self.revision), "version": "0"}
        self.kv = {
            "key": b64encode(keys.PATRONI_CONFIG.encode()).decode(),
            "value": value,
            "create_revision": old["create_revision"],
            "mod_revision": str(self.revision),
            "version": str(int(old["version"]) + 1),
        }

    @property
    def nodes(self) -> dict[str, dict[str, Any]]:
        assert self.kv is not None
        return {"config": self.kv}


def member(name: str, seals: Seals | None = SEALS, **changes: Any) -> dict[str, Any]:
    """Return a member's record of itself; without ``seals`` as a thief writes it."""
    data = {"conn_url": "postgres://127.1.1.1:5432/postgres", "api_url": HOME, **changes}
    place = KeyVersion(keys.patroni_member(name), 0, 0, lease=False)
    value = seals.seal_fields(place, data) if seals else data
    return {"value": json.dumps(value), "mod_revision": "3", "lease": "7", "key": f"members/{name}"}


def written(etcd: EtcdOfPatroni, fields: dict[str, Any] | None = None) -> bool:
    return Sealing(SEALS).configuring()(etcd, json.dumps(fields or DYNAMIC))


def config(etcd: EtcdOfPatroni) -> dict[str, Any] | None:
    """Return what Patroni sees of its configuration."""
    found = Sealing(SEALS).checked(etcd.nodes).get("config")
    return json.loads(found["value"]) if found else None


def test_what_patroni_writes_it_reads_again() -> None:
    """And so do we: both use the same seal."""
    etcd = EtcdOfPatroni()
    assert written(etcd)
    assert config(etcd) == DYNAMIC
    assert written(etcd, {**DYNAMIC, "pause": True})
    assert config(etcd) == {**DYNAMIC, "pause": True}
    assert etcd.kv is not None
    fields = {name: int(etcd.kv[name]) for name in ("create_revision", "mod_revision", "version")}
    kv = KeyValue(keys.PATRONI_CONFIG, etcd.kv["value"].encode(), **fields)
    assert json.loads(SEALS.unseal(kv)) == {**DYNAMIC, "pause": True}


@pytest.mark.parametrize(
    "value",
    [
        '{"ttl": 20}',
        "[]",
        "",
        RESERVED.decode(),
        json.dumps({"ttl": 20, FIELD: "x"}),
        json.dumps({"ttl": 20, FIELD: 7}),
        json.dumps(
            THIEF.seal_fields(KeyVersion(keys.PATRONI_CONFIG, 11, 3, lease=False), {"ttl": 20})
        ),
    ],
    ids=str,
)
def test_a_forged_configuration_is_none(value: str) -> None:
    """Patroni keeps the previous one, and its leader writes that back."""
    etcd = EtcdOfPatroni()
    assert written(etcd)
    etcd.write(value)
    assert config(etcd) is None
    assert written(etcd)
    assert config(etcd) == DYNAMIC


@pytest.mark.parametrize("name", ["config", "members/a-1", "sync", "history", "failsafe"])
def test_what_patroni_itself_could_not_read_never_gets_to_it(name: str) -> None:
    """Nested so deeply that a parser fails with an unexpected error."""
    value = '{"x":' + "[" * 20000 + "]" * 20000 + "}"
    node = {"value": value, "version": "1", "create_revision": "3", "mod_revision": "3"}
    leader = {"value": "a-1", "mod_revision": "4"}
    instead = {"sync": {**node, "value": "{}"}} if name == "sync" else {}
    assert Sealing(SEALS).checked({name: node, "leader": leader}) == {"leader": leader, **instead}


def test_a_configuration_without_its_version_is_none_unless_this_process_wrote_it() -> None:
    """Patroni's cache first has its own writes without one; no other writer's are trusted."""
    etcd, sealing = EtcdOfPatroni(), Sealing(SEALS)
    assert sealing.configuring()(etcd, json.dumps(DYNAMIC))
    assert etcd.kv is not None
    own = {name: etcd.kv[name] for name in ("key", "value", "mod_revision")}
    assert json.loads(sealing.checked({"config": own})["config"]["value"]) == DYNAMIC
    assert Sealing(SEALS).checked({"config": own}) == {}
    for value in (json.dumps({**DYNAMIC, "pause": True}), own["value"] + " "):
        assert sealing.checked({"config": {**own, "value": value}}) == {}


def test_a_place_that_is_no_number_is_none() -> None:
    """A thief may answer in place of etcd."""
    etcd = EtcdOfPatroni()
    assert written(etcd)
    assert etcd.kv is not None
    for name in ("version", "lease", "create_revision"):
        assert Sealing(SEALS).checked({"config": {**etcd.kv, name: "x"}}) == {}


def test_an_old_configuration_is_none() -> None:
    """Restored over the new one, or after a deletion."""
    etcd = EtcdOfPatroni()
    written(etcd, {"synchronous_mode": False})
    assert etcd.kv is not None
    old = etcd.kv["value"]
    written(etcd)
    etcd.write(old)
    assert config(etcd) is None
    etcd.kv = None
    etcd.write(RESERVED.decode())
    etcd.write(old)
    assert config(etcd) is None


def test_a_change_that_came_between_wins() -> None:
    """A write never overwrites a value that its writer has not seen."""
    etcd = EtcdOfPatroni()
    written(etcd)
    assert not Sealing(SEALS).configuring()(etcd, "{}", "1")

    def interfere() -> None:
        etcd.between = lambda: None
        written(etcd, {"ttl": 30})

    etcd.between = interfere
    assert not written(etcd, {"ttl": 40})
    assert config(etcd) == {"ttl": 30}


def test_a_forged_member_is_not_there() -> None:
    """Otherwise passwords would go to the thief's host, and the standby would follow it."""
    nodes = {
        "members/a-1": member("a-1"),
        "members/b-2": member("b-2", None, conn_url="postgres://thief/postgres", api_url=HOST),
        "members/c-3": member("c-3", THIEF),
        "members/d-4": member("a-1"),
        "members/e-5": {"value": "postgres://thief/postgres"},
        "leader": {"value": "a-1"},
    }
    assert sorted(Sealing(SEALS).checked(nodes)) == ["leader", "members/a-1"]


def test_only_known_members_are_asked_while_etcd_is_away() -> None:
    """Patroni sends its password to each of them."""
    sealing = Sealing(SEALS)
    nodes = {"members/a-1": member("a-1")}
    ours = {"failsafe": {"value": json.dumps({"a-1": HOME})}}
    forgeries: list[object] = [{"a-1": HOST}, {"b-2": HOME}, {"a-1": 7}, [], {}]
    for forged in forgeries:
        wrong = {"failsafe": {"value": json.dumps(forged)}}
        assert "failsafe" not in sealing.checked({**nodes, **wrong})
    assert "failsafe" in sealing.checked({**nodes, **ours})
    assert "failsafe" in sealing.checked(ours)


def test_all_registered_members_are_asked_while_etcd_is_away() -> None:
    """A primary that is listed alone would go on as if no other node could have taken over."""
    sealing = Sealing(SEALS)
    nodes = {"members/a-1": member("a-1"), "members/b-2": member("b-2")}
    for names in ([], ["a-1"], ["b-2"]):
        subset = {"failsafe": {"value": json.dumps(dict.fromkeys(names, HOME))}}
        assert "failsafe" not in sealing.checked({**nodes, **subset})
    alone = {"failsafe": {"value": json.dumps({"a-1": HOME})}}
    both = {"failsafe": {"value": json.dumps({"a-1": HOME, "b-2": HOME})}}
    assert "failsafe" in sealing.checked({**nodes, **both})
    del nodes["members/b-2"]  # as an undeploy does once it is off
    assert "failsafe" in sealing.checked({**nodes, **alone})
    nodes["members/c-3"] = member("c-3", THIEF)
    assert "failsafe" in sealing.checked({**nodes, **alone})
    assert "failsafe" not in sealing.checked({"failsafe": {"value": "{}"}})


def test_what_a_patroni_tells_of_itself_carries_its_seal() -> None:
    """The same content has the same seal: nothing unchanged is rewritten."""
    told: list[dict[str, Any]] = []

    def touch(_: Any, data: dict[str, Any]) -> bool:
        told.append(data)
        return True

    sealing, etcd = Sealing(SEALS), EtcdOfPatroni()
    for _ in range(2):
        assert sealing.telling(touch)(etcd, {"state": "running"})
    assert told[0] == told[1]
    node = {"value": json.dumps(told[0])}
    assert sealing.checked({"members/a-1": node}) == {"members/a-1": node}
    assert sealing.checked({"members/b-2": node}) == {}


def test_this_patroni_has_the_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The real view of the cluster is built only from checked values."""
    etcd3 = import_module("patroni.dcs.etcd3").Etcd3
    for name in ("_cluster_from_nodes", "touch_member", "set_config_value"):
        monkeypatch.setattr(etcd3, name, getattr(etcd3, name))
    monkeypatch.setattr("sys.argv", ["patroni", str(tmp_path / "patroni.yml")])
    monkeypatch.setattr("openvcha.node.patroni.patches.seals.RecordKeys", lambda _: SEALS._known)
    install()
    methods = {name: getattr(etcd3, name) for name in ("set_config_value",)}
    etcd = type("Patched", (EtcdOfPatroni,), methods)()
    assert etcd.set_config_value(json.dumps(DYNAMIC))
    nodes = {**etcd.nodes, "members/a-1": member("a-1"), "members/b-2": member("b-2", None)}
    real: Any = object.__new__(etcd3)
    real._ctl = True
    found = real._cluster_from_nodes(nodes)
    assert [each.name for each in found.members] == ["a-1"]
    assert found.config.data == DYNAMIC
    etcd.write('{"postgresql": {"callbacks": {"on_start": "touch x"}}}')
    assert real._cluster_from_nodes(etcd.nodes).config is None
