"""Patroni's patches for the modes: it reports its effective settings, and may go on alone."""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from openvcha.node.patroni.patches.modes import install, with_release, with_setting_tags
from openvcha.store.keys import ALONE, DETACHED

STANDBY = frozenset({"b"})
NOBODY: frozenset[str] = frozenset()


class HighAvailability:
    """Stands in for Patroni's Ha on a primary whose store is away."""

    def __init__(self, **config: bool) -> None:
        self.cluster: Any = SimpleNamespace(config=SimpleNamespace(data=config))
        self.state_handler = self
        self.sync_handler = self
        self.primary = True
        self.sync, self.active = STANDBY, NOBODY
        self.set_to: list[Any] = []

    def is_paused(self) -> bool:
        return bool(self.cluster.config.data.get("pause"))

    def is_primary(self) -> bool:
        return self.primary

    def current_state(self, cluster: Any) -> SimpleNamespace:
        assert cluster is self.cluster
        return SimpleNamespace(sync=self.sync, active=self.active)

    def set_synchronous_standby_names(self, names: Any) -> None:
        self.set_to.append(names)


class Begun(HighAvailability):
    """Before its first read of the cluster; Patroni knows of the pause separately."""

    def is_paused(self) -> bool:
        return True


def lose_the_store(ha: HighAvailability) -> list[Any]:
    assert with_release(lambda _: "DCS is not accessible")(ha) == "DCS is not accessible"
    return ha.set_to


def test_a_primary_that_may_go_on_alone_waits_for_no_standby_that_is_away() -> None:
    """Otherwise every commit would wait for ever: no node can remove the standby from /sync."""
    assert lose_the_store(HighAvailability(pause=True, **{ALONE: True})) == [NOBODY]


@pytest.mark.parametrize("config", [{}, {"pause": True}, {ALONE: True}], ids=str)
def test_without_both_settings_it_goes_on_waiting(config: dict[str, bool]) -> None:
    """Another node may take over then: what it acknowledged alone would be lost."""
    assert lose_the_store(HighAvailability(**config)) == []


def test_a_standby_that_streams_is_waited_for() -> None:
    """The store is away, the standby is not: both have each row."""
    ha = HighAvailability(pause=True, **{ALONE: True})
    ha.active = STANDBY
    assert lose_the_store(ha) == []


def test_nothing_is_done_where_there_is_nothing_to_do() -> None:
    """On a standby, without a synchronous standby, and before the first read of the cluster."""
    standby, released_before = (HighAvailability(pause=True, **{ALONE: True}) for _ in range(2))
    standby.primary = False
    released_before.sync = NOBODY
    assert lose_the_store(standby) == lose_the_store(released_before) == []
    begun = Begun()
    begun.cluster = None
    assert lose_the_store(begun) == []


def test_it_tells_what_it_goes_by_and_asks_to_be_let_go() -> None:
    """As tags beside its own; a detached standby must not be synchronous."""

    def own(_: Any) -> dict[str, Any]:
        return {"zone": 1}

    tags = with_setting_tags(own)
    assert tags(HighAvailability()) == {"zone": 1}
    assert tags(HighAvailability(**{ALONE: True})) == {"zone": 1, ALONE: True}
    detached = {"zone": 1, DETACHED: True, "nosync": True, "sync_priority": 0}
    assert tags(HighAvailability(**{DETACHED: True})) == detached


def test_this_patroni_has_the_places_that_are_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version without them is detected here, not by a mode without effect."""
    _, module = (import_module(name) for name in ("patroni.postgresql", "patroni.ha"))
    ha = module.Ha
    before = ha.get_effective_tags, ha._handle_dcs_error
    monkeypatch.setattr(ha, "get_effective_tags", before[0])
    monkeypatch.setattr(ha, "_handle_dcs_error", before[1])
    install()
    assert ha.get_effective_tags is not before[0]
    assert ha._handle_dcs_error is not before[1]
    sync = import_module("patroni.postgresql.sync")
    assert {"sync", "active"} <= set(sync._SyncState._fields)
    assert hasattr(sync.SyncHandler, "set_synchronous_standby_names")
