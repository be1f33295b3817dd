"""A leader deletes its key and writes its last status in one transaction, or as Patroni does."""

import json
from base64 import b64decode
from collections.abc import Callable
from importlib import import_module
from threading import Lock
from typing import Any

import pytest

from openvcha.node.patroni.patches.atomic_release import in_one_transaction, install

LEADER = "/ns/cluster/leader"
STATUS = "/ns/cluster/status"


def text(encoded: str) -> str:
    return b64decode(encoded).decode()


class Gateway:
    """Simulated: etcd as Patroni's client sees it."""

    def __init__(self, leader: str = "a") -> None:
        self.held = {LEADER: leader, STATUS: '{"optime":1}'}
        self.writes = 0
        self.refuses: Exception | None = None

    def handle_auth_errors(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(self, *arguments, retry=None)

    def call_rpc(self, method: str, fields: dict[str, Any], _: None = None) -> dict[str, Any]:
        assert method == "/kv/txn"
        self._refuse()
        (compare,) = fields["compare"]
        assert compare["target"] == "VALUE"
        if self.held.get(text(compare["key"])) != text(compare["value"]):
            return {}
        self.writes += 1
        for change in fields["success"]:
            if delete := change.get("request_delete_range"):
                del self.held[text(delete["key"])]
            else:
                put = change["request_put"]
                self.held[text(put["key"])] = text(put["value"])
        return {"succeeded": True}

    def txn(self, compare: dict[str, Any], success: dict[str, Any]) -> dict[str, Any]:
        return self.call_rpc("/kv/txn", {"compare": [compare], "success": [success]})

    def put(self, key: str, value: str) -> dict[str, Any]:
        self._refuse()
        self.writes += 1
        self.held[key] = value
        return {"header": {}}

    def _refuse(self) -> None:
        refusal, self.refuses = self.refuses, None
        if refusal:
            raise refusal


def patroni(gateway: Gateway) -> Any:
    """Return Patroni's own class, with etcd simulated and the patched delete_leader."""
    dcs, etcd3 = (import_module(name) for name in ("patroni.dcs", "patroni.dcs.etcd3"))
    replaced = {"delete_leader": in_one_transaction(dcs.AbstractDCS.delete_leader)}
    store: Any = object.__new__(type("Store", (etcd3.Etcd3,), replaced))
    store._abstract_client = gateway
    store._base_path, store._name = "/ns/cluster", "a"
    store._mpp = import_module("patroni.postgresql.mpp").get_mpp({})
    store._last_status = {"optime": 1, "retain_slots": ["b"]}
    store._cluster, store._cluster_thread_lock = None, Lock()
    store._cluster_valid_till, store._last_lsn, store._has_failed = 0.0, 0, False
    return store


def status(gateway: Gateway) -> Any:
    return json.loads(gateway.held[STATUS])


def test_both_are_one_write() -> None:
    """A watcher finds the key already gone; the rest of the status is preserved."""
    gateway = Gateway()
    assert patroni(gateway).delete_leader(object(), 7)
    assert LEADER not in gateway.held
    assert status(gateway) == {"optime": 7, "retain_slots": ["b"]}
    assert gateway.writes == 1


def test_the_key_of_another_stays() -> None:
    """The key was lost meanwhile."""
    gateway = Gateway(leader="b")
    assert not patroni(gateway).delete_leader(object(), 7)
    assert gateway.held[LEADER] == "b"


def test_what_fails_is_done_as_patroni_does_it() -> None:
    """One after the other."""
    gateway = Gateway()
    gateway.refuses = import_module("etcd").EtcdException("no answer")
    assert patroni(gateway).delete_leader(object(), 7)
    assert LEADER not in gateway.held
    assert status(gateway)["optime"] == 7
    assert gateway.writes == 2


def test_without_a_position_there_is_no_status() -> None:
    """Patroni steps down for many reasons; not always is the last position known."""
    gateway = Gateway()
    assert patroni(gateway).delete_leader(object())
    assert LEADER not in gateway.held
    assert status(gateway) == {"optime": 1}


def test_who_leads_not_writes_its_status_only() -> None:
    """As Patroni does."""
    gateway = Gateway()
    assert not patroni(gateway).delete_leader(None, 7)
    assert gateway.held[LEADER] == "a"


def test_the_patroni_that_is_locked_has_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed Patroni must fail here, not in a failover."""
    store = import_module("patroni.dcs.etcd3").Etcd3
    before = store.delete_leader
    monkeypatch.setattr(store, "delete_leader", before)
    install()
    assert store.delete_leader is not before
    monkeypatch.delattr(store, "_write_status")
    monkeypatch.delattr(import_module("patroni.dcs").AbstractDCS, "_write_status")
    with pytest.raises(AttributeError):
        install()
