"""Patroni starts while the store is full, and waits for a store that is away."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from openvcha.node.patroni.patches.full_store import FULL, install

etcd3 = import_module("patroni.dcs.etcd3")


class Store:
    """Stands in for Patroni's own: grants a lease, or fails."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self._lease: str | None = None
        self.asked = 0

    def retry(self, work: Callable[[], bool]) -> bool:
        return work()

    def _do_refresh_lease(self) -> bool:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        self._lease = "7"
        return True

    def refresh_lease(self) -> bool:
        try:
            return self._do_refresh_lease()
        except Exception as error:
            raise etcd3.Etcd3Error(str(error)) from error


@pytest.fixture
def create(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Return Patroni's own method, patched, without its sleeps."""
    monkeypatch.setattr(etcd3.Etcd3, "create_lease", etcd3.Etcd3.create_lease)
    monkeypatch.setattr(etcd3.time, "sleep", lambda _: None)
    install()
    made: Callable[[Any], None] = etcd3.Etcd3.create_lease
    return made


def test_a_full_store_holds_nobody_up(create: Callable[[Any], None]) -> None:
    """It grants no lease until it has space, which may take a person."""
    store = Store(*[etcd3.Etcd3ClientError(8, f"etcdserver: mvcc: {FULL}")] * 100)
    create(store)
    assert (store._lease, store.asked) == (None, 1)


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_a_store_that_is_away_is_waited_for(create: Callable[[Any], None], failures: int) -> None:
    """As Patroni does."""
    store = Store(*[etcd3.Unavailable(14, "away")] * failures)
    create(store)
    assert store._lease == "7"
