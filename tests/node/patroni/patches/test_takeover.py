"""Sessions that block a standby's replay during takeover are ended; no other, and no promotion."""

import threading
from importlib import import_module
from typing import Any

import pytest

from openvcha.node.patroni.patches import takeover
from openvcha.node.patroni.patches.takeover import END, end_holders, ending_holders, install
from openvcha.node.postgres.diagnosis.replay import HOLDERS

ROW = (4711, "app", "report", None)


class Standby:
    """Stands in for Patroni's Postgresql: one session blocks its promotion until it is ended."""

    def __init__(self, *, broken: int = 0) -> None:
        self.connection_pool = self
        self.holds = True
        self.broken = broken
        self.free = threading.Event()
        self.names: list[str] = []
        self.closed = 0

    def get(self, name: str) -> "Standby":
        self.names.append(name)
        return self

    def query(self, text: str, *arguments: int) -> list[tuple[Any, ...]]:
        if self.broken:
            self.broken -= 1
            raise OSError("no places left")
        if text == END:
            assert arguments == (ROW[0],)
            self.free.set()
            return []
        assert text == HOLDERS
        return [] if self.free.is_set() else [ROW]

    def close(self, silent: bool) -> None:
        assert silent
        self.closed += 1

    def promote(self, wait_seconds: int, task: object) -> bool:
        del task
        return self.free.wait(wait_seconds)


@pytest.mark.parametrize("broken", [0, 2])
def test_a_promotion_is_not_held_up(broken: int) -> None:
    """Even if the sessions could not be queried at first."""
    standby = Standby(broken=broken)
    assert ending_holders(Standby.promote)(standby, 20, None)
    assert standby.names == [takeover.CONNECTION]
    assert standby.closed == 1
    assert not any("takeover" in thread.name for thread in threading.enumerate())


def test_a_promotion_that_fails_is_not_hidden() -> None:
    """And the checks stop."""

    def promote(self: Standby) -> bool:
        raise RuntimeError(self.names)

    standby = Standby()
    with pytest.raises(RuntimeError):
        ending_holders(promote)(standby)
    assert standby.closed == 1


def test_nobody_is_ended_who_is_in_nobodys_way() -> None:
    """Readers survive a failover."""
    standby = Standby()
    standby.free.set()
    end_holders(standby.query)
    assert standby.holds


def test_it_is_put_into_patroni(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, which has what the patch needs."""
    real: Any = import_module("patroni.postgresql").Postgresql
    before = real.promote
    monkeypatch.setattr(real, "promote", before)
    install()
    assert real.promote is not before
    assert hasattr(import_module("patroni.postgresql.connection").NamedConnection, "query")
