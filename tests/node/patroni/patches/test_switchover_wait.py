"""A former leader waits for its standby and for its successor, and for neither longer."""

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.simulated.clock import Time

from openvcha.node.patroni.patches import switchover_wait
from openvcha.node.patroni.patches.early_wake_clock import EarlyWakeClock
from openvcha.node.patroni.patches.switchover_wait import (
    POLL_SECONDS,
    install,
    wait_promote,
    with_early_wake,
)

CHECKPOINT = 1000


class Leader:
    """Stands in for Patroni's Ha: its state is a function of the time."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.leads = True
        self.running_until = 1e9
        self.received: Callable[[float], int] = lambda _: CHECKPOINT
        self.taken_at = 1e9
        self.state_handler = self
        self.dcs = self
        self.name = "a"
        self.asked: list[int] = []

    def is_leader(self) -> bool:
        return self.leads

    def is_running(self) -> bool:
        return self.time.now < self.running_until

    def latest_checkpoint_locations(self) -> tuple[int, int]:
        return CHECKPOINT, CHECKPOINT

    def is_failover_possible(self, *, cluster_lsn: int = 0, **_: object) -> bool:
        self.asked.append(cluster_lsn)
        return self.received(self.time.now) >= cluster_lsn

    def get_cluster(self) -> SimpleNamespace:
        taken = self.time.now >= self.taken_at
        return SimpleNamespace(leader=SimpleNamespace(name="b" if taken else "a"))


def demote(self: Leader, mode: str) -> list[float]:
    """Sleep as Patroni's demote does, and return the time after each sleep."""
    clock = self.clock  # type: ignore[attr-defined]  # set by the test
    clock.sleep(1)
    first = self.time.now
    self.leads = mode != "graceful"
    clock.sleep(2)
    return [first, self.time.now - first]


def taken(mode: str = "graceful", **facts: Any) -> list[float]:
    time = Time()
    clock = EarlyWakeClock(time, POLL_SECONDS)
    leader = Leader(time)
    leader.clock = clock  # type: ignore[attr-defined]  # as the module's
    for name, fact in facts.items():
        setattr(leader, name, fact)
    found: list[float] = with_early_wake(demote, clock)(leader, mode)
    return found


def test_it_waits_for_the_shutdown_checkpoint_itself() -> None:
    """A standby with everything before it is not enough: the former leader could not follow."""
    slow = taken(received=lambda now: CHECKPOINT + (now >= 0.3))
    assert slow[0] == pytest.approx(0.3, abs=POLL_SECONDS)


def test_it_waits_for_a_successor() -> None:
    """It can follow as soon as there is one."""
    assert taken(running_until=0.0, taken_at=0.5)[1] == pytest.approx(0.5, abs=POLL_SECONDS)


def test_who_never_comes_is_waited_for_as_long_as_ever() -> None:
    """With Patroni's own limits."""
    assert taken() == pytest.approx([1.0, 2.0])


def test_a_server_that_has_ended_sends_nothing_more() -> None:
    """Patroni asks the standby by itself then."""
    assert taken(running_until=0.0)[0] == 0.0


@pytest.mark.parametrize(("more", "again"), [(0, False), (1, False), (2, True)])
def test_what_the_standby_has_is_not_asked_a_second_time(more: int, again: bool) -> None:
    """Patroni asks after its sleep; only for anything beyond is the standby asked again."""
    time = Time()
    clock = EarlyWakeClock(time, POLL_SECONDS)
    leader = Leader(time)
    leader.received = lambda _: CHECKPOINT + 1

    def demote(self: Leader, _mode: str) -> bool:
        clock.sleep(1)
        return self.is_failover_possible(cluster_lsn=CHECKPOINT + more)

    assert with_early_wake(demote, clock)(leader, "graceful") is not again
    assert leader.asked == [CHECKPOINT + 1, *([CHECKPOINT + more] if again else [])]
    assert leader.is_failover_possible(cluster_lsn=1)
    assert leader.asked[-1] == 1


def test_a_standby_that_lacks_it_is_asked_again() -> None:
    """After the whole sleep, by Patroni itself."""
    time = Time()
    clock = EarlyWakeClock(time, POLL_SECONDS)
    leader = Leader(time)

    def demote(self: Leader, _mode: str) -> bool:
        clock.sleep(1)
        return self.is_failover_possible(cluster_lsn=CHECKPOINT)

    assert with_early_wake(demote, clock)(leader, "graceful")
    assert leader.asked[-1] == CHECKPOINT


@pytest.mark.parametrize("mode", ["offline", "immediate", "immediate-nolock", "demote-cluster"])
def test_other_ways_to_step_down_are_left_alone(mode: str) -> None:
    """Only a switchover is accelerated."""
    assert taken(mode, running_until=0.0, taken_at=0.0) == pytest.approx([1.0, 2.0])


def test_a_promotion_is_seen_soon() -> None:
    """And one that does not come in time has no outcome."""
    states = iter(["in archive recovery", "in production"])
    roles: list[str] = []
    server: Any = SimpleNamespace(
        controldata=lambda: {"Database cluster state": next(states)}, set_role=roles.append
    )
    assert wait_promote(server, 5.0) is True
    assert roles == ["primary"]
    server.controldata = dict
    assert wait_promote(server, 0.05) is None
    assert len(roles) == 1


def test_the_patroni_that_is_locked_has_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed Patroni must fail here, not in a failover."""
    postgresql, ha = (import_module(name) for name in ("patroni.postgresql", "patroni.ha"))
    server = postgresql.Postgresql
    before = ha.Ha.demote
    monkeypatch.setattr(ha, "time", ha.time)
    monkeypatch.setattr(ha.Ha, "demote", before)
    monkeypatch.setattr(server, "_wait_promote", server._wait_promote)
    monkeypatch.setattr(postgresql, "STOP_POLLING_INTERVAL", 1)
    install()
    assert ha.Ha.demote is not before
    assert isinstance(ha.time, EarlyWakeClock)
    assert server._wait_promote is switchover_wait.wait_promote
    assert postgresql.STOP_POLLING_INTERVAL == POLL_SECONDS


@pytest.mark.parametrize("name", ["STOP_POLLING_INTERVAL", "Postgresql"])
def test_a_patroni_without_a_place_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The patch would have no effect."""
    monkeypatch.delattr(import_module("patroni.postgresql"), name)
    with pytest.raises(AttributeError):
        install()
