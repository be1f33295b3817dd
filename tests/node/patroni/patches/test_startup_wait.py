"""Patroni's fixed waits end as soon as their reason does, never earlier or later than before."""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.simulated.clock import Time

from openvcha.node.patroni.patches import startup_wait
from openvcha.node.patroni.patches.early_wake_clock import EarlyWakeClock
from openvcha.node.patroni.patches.startup_wait import install, wait_for_startup, with_early_wake


class Replication:
    """Stands in for Patroni's Ha: a standby becomes confirmed after a number of checks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.resets = 0
        self.cluster = None
        self.state_handler = self
        self.sync_handler = self

    def reset_cluster_info_state(self, _cluster: object) -> None:
        self.resets += 1

    def current_state(self, _cluster: object) -> SimpleNamespace:
        done = self.resets > self.looks
        return SimpleNamespace(sync={"b"}, sync_confirmed={"b"} if done else set())


@pytest.mark.parametrize(("looks", "taken"), [(0, 0.0), (2, 0.2), (10**6, 2.0)])
def test_the_wait_ends_when_the_standby_is_confirmed(looks: int, taken: float) -> None:
    """Each check is a new one, and an unconfirmed standby takes as long as it always did."""
    time = Time()
    clock = EarlyWakeClock(time, 0.1)
    with_early_wake(lambda _: clock.sleep(2.0), clock)(Replication(looks))
    assert time.now == pytest.approx(taken)


@pytest.mark.parametrize(("state", "result"), [("running", True), ("start failed", False)])
def test_a_start_is_seen_soon(state: str, result: bool) -> None:
    """A completed start is reported with its outcome."""
    changes = iter([False, False, True])
    server: Any = SimpleNamespace(
        check_startup_state_changed=lambda: next(changes),
        cancellable=SimpleNamespace(is_cancelled=False),
        time_in_state=lambda: 0.0,
        state=state,
    )
    assert wait_for_startup(server) is result


def test_a_start_that_is_canceled_or_late_ends_without_outcome() -> None:
    """None means unknown."""
    server: Any = SimpleNamespace(
        check_startup_state_changed=lambda: False,
        cancellable=SimpleNamespace(is_cancelled=False),
        time_in_state=lambda: 9.0,
        state="starting",
    )
    assert wait_for_startup(server, timeout=5) is None
    server.cancellable.is_cancelled = True
    assert wait_for_startup(server) is None


def test_the_patroni_that_is_locked_has_both_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed Patroni must fail here, not in a redeploy."""
    postgresql, ha = (import_module(name) for name in ("patroni.postgresql", "patroni.ha"))
    server = postgresql.Postgresql
    before = ha.Ha._process_multisync_replication
    monkeypatch.setattr(ha, "time", ha.time)
    monkeypatch.setattr(ha.Ha, "_process_multisync_replication", before)
    monkeypatch.setattr(server, "wait_for_startup", server.wait_for_startup)
    install()
    assert ha.Ha._process_multisync_replication is not before
    assert server.wait_for_startup is startup_wait.wait_for_startup
    assert isinstance(ha.time, EarlyWakeClock)
