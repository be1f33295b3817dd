"""A thief with a vote writes what Patroni cannot read: the real Patroni goes on without it."""

import base64
import json
import threading
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from openvcha.api.secret import Secret
from openvcha.node.background.standby_progress import observe_standby
from openvcha.node.patroni.patches import key_forms
from openvcha.node.patroni.patches.key_forms import EMPTY_SYNC, install, is_formed
from openvcha.node.patroni.patches.seals import Sealing
from openvcha.store import keys
from openvcha.store.interface import KeyValue
from openvcha.store.sealing.seal import Seals

SEALS = Seals(lambda: [Secret("a key of the data nodes")])
OWN, OTHER = "7712774614144250607", "7712774614144250608"
SOUND = {
    "initialize": OWN,
    "leader": "a-1",
    "sync": '{"leader":"a-1","quorum":0,"sync_standby":"b-2"}',
    "status": '{"optime":50642936,"slots":{"b_2":50642936},"retain_slots":["a_1","b_2"]}',
    "failover": '{"member":"b-2"}',
    "history": '[[1,50331808,"no recovery target specified","2026-11-27T09:04:50+00:00","a-1"]]',
}
"""As Patroni writes them, and a promotion."""
FURTHER = [
    ("initialize", ""),
    ("sync", '{"leader":null,"sync_standby":null}'),
    ("sync", '{"leader":"a-1","sync_standby":""}'),
    ("status", '{"optime":0}'),
    ("failover", '{"leader":"a-1","candidate":"b-2","scheduled_at":null}'),
    ("history", "[]"),
]
BAD = [
    ("initialize", "x" * 12),
    ("initialize", "\u00b2" * 12),
    ("initialize", "9" * 5000),
    ("leader", "a-1\x1b[2J"),
    ("leader", "a" * 5000),
    ("sync", "\ufffd"),
    ("sync", '{"leader":["a-1"],"sync_standby":{"b-2":1}}'),
    ("sync", '{"leader":"a-1","sync_standby":["b-2"]}'),
    ("sync", '{"leader":"a-1","sync_standby":"b-2","quorum":1e999}'),
    ("sync", '{"leader":"a-1","sync_standby":"b-2","quorum":NaN}'),
    ("status", '{"optime":1e999}'),
    ("status", '{"optime":-1}'),
    ("status", '{"optime":' + "9" * 5000 + "}"),
    ("status", '{"optime":true}'),
    ("status", '{"optime":1,"slots":{"b_2":NaN}}'),
    ("status", '{"optime":1,"slots":{"b_2":{}}}'),
    ("status", '{"optime":1,"slots":{"B 2":1}}'),
    ("status", '{"optime":1,"retain_slots":[{}]}'),
    ("status", '{"optime":1,"retain_slots":[[]]}'),
    ("status", '{"optime":1,"retain_slots":["../../x"]}'),
    ("status", json.dumps({"optime": 1, "retain_slots": [f"s{n}" for n in range(1000)]})),
    ("status", "17"),
    ("failover", "a-1:b-2"),
    ("failover", '{"leader":{}}'),
    ("failover", '{"member":["b-2"]}'),
    ("failover", '{"leader":"a-1","scheduled_at":7}'),
    ("failover", '{"leader":"a-1","scheduled_at":"9999-99-99"}'),
    ("failover", '{"leader":"a-1","scheduled_at":"2026-11-27T09:00:00+00:00"}'),
    ("history", '[[1,2,3],"x",{"a":1}]'),
    ("history", '[[1,"x","y"]]'),
    ("history", "{}"),
    ("optime/leader", "1"),
]


@pytest.fixture
def patroni(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the real Patroni; what is patched into it goes away with the test."""
    etcd3, ha = (import_module(name) for name in ("patroni.dcs.etcd3", "patroni.ha"))
    monkeypatch.setattr(etcd3, "base64_decode", etcd3.base64_decode)
    monkeypatch.setattr(ha.Ha, "load_cluster_from_dcs", ha.Ha.load_cluster_from_dcs)
    return SimpleNamespace(etcd3=etcd3, ha=ha.Ha)


def nodes(values: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {name: {"value": value, "mod_revision": "5"} for name, value in values.items()}


def seen(values: dict[str, str]) -> Any:
    """Return what the real Patroni makes of the content of the store."""
    store: Any = object.__new__(import_module("patroni.dcs.etcd3").Etcd3)
    store._name, store._ctl, store._lease = "a-1", False, None
    found = nodes(values)
    for node in found.values():
        node.setdefault("lease", None)
    reading = Sealing(SEALS).reading(type(store)._cluster_from_nodes)
    return reading(store, found)


@pytest.mark.parametrize(("name", "value"), [*SOUND.items(), *FURTHER])
def test_what_patroni_writes_passes(name: str, value: str) -> None:
    """Unchanged."""
    assert is_formed(name, value)
    assert Sealing(SEALS).checked(nodes({name: value})) == nodes({name: value})


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda text: text[:40])
def test_what_it_cannot_read_never_gets_to_it(name: str, value: str) -> None:
    """Everything else does."""
    good = {key: one for key, one in SOUND.items() if key != name}
    checked = Sealing(SEALS).checked(nodes({**good, name: value}))
    instead = {"initialize": "", "sync": EMPTY_SYNC}.get(name)
    assert {key: node["value"] for key, node in checked.items()} == {
        **good,
        **({} if instead is None else {name: instead}),
    }


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda text: text[:40])
def test_its_cluster_can_be_gone_through(name: str, value: str) -> None:
    """By all that its loop reads: names are names, log positions are numbers."""
    cluster = seen({**SOUND, name: value})
    assert not cluster.sync.matches("x")
    assert set(cluster.slots or {}) <= {"b_2", "a_1"}
    assert all(isinstance(name, str) for name in {*cluster.status.retain_slots})
    assert cluster.leader is None or cluster.leader.name == "a-1"
    assert cluster.failover is None or cluster.failover.candidate in {None, "b-2"}


def test_a_sync_that_is_none_can_be_written_anew() -> None:
    """Its revision stays known, so the leader's next write can be conditional on it."""
    cluster = seen({**SOUND, "sync": "\ufffd"})
    assert cluster.sync.is_empty
    assert cluster.sync.version == "5"


def test_bytes_that_are_no_text_are_read(patroni: Any) -> None:
    """Unpatched, one such value makes every read of the store fail."""
    store: Any = object.__new__(patroni.etcd3.PatroniEtcd3Client)
    kv = {"key": _encoded(b"/x/sync"), "value": _encoded(b"\xff\xfe\x00")}
    store._kv_cache = SimpleNamespace(condition=threading.Condition(), copy=lambda: [dict(kv)])
    store._etcd3 = SimpleNamespace(cluster_prefix="/x/")
    store._wait_cache = lambda _: None
    store._read_timeout = 1
    with pytest.raises(UnicodeDecodeError):
        store.get_cluster("/x/")
    install()
    ((found),) = store.get_cluster("/x/")
    assert found["value"] == "\ufffd\ufffd\x00"


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


@pytest.mark.parametrize(
    ("own", "named", "expected"),
    [
        (OWN, OWN, OWN),
        (OWN, OTHER, ""),
        (OWN, None, None),
        ("", OTHER, OTHER),  # no data yet
    ],
)
def test_another_system_s_identifier_is_none(
    own: str, named: str | None, expected: str | None
) -> None:
    """Otherwise Patroni would exit, on every node, for as long as the key exists."""
    ha = import_module("patroni.ha").Ha
    cluster = seen({**SOUND, "initialize": named} if named else {"leader": "a-1"})
    self_: Any = SimpleNamespace(
        state_handler=SimpleNamespace(sysid=own), sysid_valid=ha.sysid_valid
    )

    def load(found: Any) -> None:
        found.cluster = cluster

    key_forms.ignoring_other_systems(load)(self_)
    assert self_.cluster.initialize == expected
    assert self_.cluster.sync == cluster.sync


def test_this_patroni_has_the_places(patroni: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version is refused at start."""
    install()
    monkeypatch.delattr(patroni.ha, "load_cluster_from_dcs")
    with pytest.raises(AttributeError):
        install()


@pytest.mark.parametrize(
    "sync",
    [b"\xff", b"7", b'{"sync_standby":{"b-2":1}}', b'{"sync_standby":["b-2"]}', b"{}"],
)
def test_a_node_s_own_looks_go_on(sync: bytes) -> None:
    """It confirms no member, and no observation fails on it."""
    kept = KeyValue(keys.PATRONI_SYNC, sync, 1, 1, 1)
    leader = KeyValue(keys.PATRONI_LEADER, b"\xff", 1, 1, 1)
    assert not observe_standby("b-2", [kept, leader], []).in_sync
