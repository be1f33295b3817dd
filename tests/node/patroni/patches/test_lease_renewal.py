"""A standby's lease is renewed in time, but not in each loop."""

import inspect
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from openvcha.node.identity import MIN_LEADER_TTL
from openvcha.node.patroni.patches.lease_renewal import RENEWAL_SECONDS, install, now_and_then


class Lease:
    """Patroni's store, which counts the renewals; its loops take a second each."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0
        self.fails = False
        self.store = SimpleNamespace(_lease="1")
        self.refresh = now_and_then(self._original, lambda: self.now)

    def _original(self, store: Any) -> bool:
        self.asked += 1
        if self.fails:
            raise OSError("away")
        granted = not store._lease
        store._lease = store._lease or str(self.asked)
        return granted

    def loop(self, times: int = 1) -> list[bool]:
        found = []
        for _ in range(times):
            found.append(self.refresh(self.store))
            self.now += 1.0
        return found


def test_it_is_renewed_every_few_seconds() -> None:
    """Several renewals may fail before it expires."""
    lease = Lease()
    lease.loop(30)
    assert lease.asked == 30 / RENEWAL_SECONDS
    assert MIN_LEADER_TTL / RENEWAL_SECONDS > 5


def test_a_lost_lease_is_replaced_at_once() -> None:
    """Patroni forgets it when the store does not know it any more."""
    lease = Lease()
    lease.loop()
    lease.store._lease = None
    assert lease.loop(2) == [True, False]
    assert lease.asked == 2


def test_a_renewal_that_failed_is_repeated_in_the_next_loop() -> None:
    """It proves nothing."""
    lease = Lease()
    lease.fails = True
    for _ in range(3):
        with pytest.raises(OSError, match="away"):
            lease.loop()
    assert lease.asked == 3


def test_patroni_has_what_is_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standby's loop calls it; the leader's renewal in each loop is another method."""
    store = import_module("patroni.dcs.etcd3").Etcd3
    monkeypatch.setattr(store, "refresh_lease", store.refresh_lease)
    before = store.refresh_lease
    install()
    assert store.refresh_lease is not before
    # Etcd3 calls it here only: the leader's renewal in each loop is `_do_refresh_lease`.
    assert inspect.getsource(store).count("self.refresh_lease()") == 2
    assert "self.refresh_lease()" in inspect.getsource(store.create_lease)
