"""Patroni's fixed waits end with their reason, never before it and never later than before."""

import threading
import time
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from openvcha.node import patroni_patience
from openvcha.node.patroni_patience import impatient, install, wait_for_startup


class Replication:
    """Stands in for Patroni's Ha: a standby becomes confirmed after a number of looks."""

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


def module() -> ModuleType:
    made = ModuleType("stand_in_for_patroni_ha")
    made.time = time  # type: ignore[attr-defined]  # as the real one has it
    return made


@pytest.mark.parametrize(("looks", "longest"), [(0, 0.1), (2, 1.0), (10**6, 1.2)])
def test_the_wait_ends_when_the_standby_is_confirmed(looks: int, longest: float) -> None:
    """It looks anew each time, and an unconfirmed standby costs what it always did."""
    namespace = module()
    replication = Replication(looks)

    def original(_: object) -> None:
        namespace.time.sleep(1.0)

    begun = time.monotonic()
    impatient(original, namespace)(replication)
    taken = time.monotonic() - begun
    assert taken < longest
    assert replication.resets > min(looks, 3)
    assert namespace.time is time, "the real clock was not put back"


def test_other_threads_sleep_as_long_as_they_ask() -> None:
    """Patroni's other threads use the same module at the same time."""
    namespace = module()
    slept: list[float] = []

    def elsewhere() -> None:
        begun = time.monotonic()
        namespace.time.sleep(0.3)
        slept.append(time.monotonic() - begun)

    def original(_: object) -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    impatient(original, namespace)(Replication(0))
    assert slept[0] >= 0.3


@pytest.mark.parametrize(("state", "result"), [("running", True), ("start failed", False)])
def test_a_start_is_seen_soon(state: str, result: bool) -> None:
    """A start that ends is reported with its outcome."""
    changes = iter([False, False, True])
    server: Any = SimpleNamespace(
        check_startup_state_changed=lambda: next(changes),
        cancellable=SimpleNamespace(is_cancelled=False),
        time_in_state=lambda: 0.0,
        state=state,
    )
    assert wait_for_startup(server) is result


def test_a_start_that_is_canceled_or_late_ends_without_outcome() -> None:
    """None means: not known."""
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
    """Another Patroni must fail here, not in a repair."""
    postgresql, ha = (import_module(name) for name in ("patroni.postgresql", "patroni.ha"))
    server = postgresql.Postgresql
    before = ha.Ha._process_multisync_replication
    monkeypatch.setattr(ha.Ha, "_process_multisync_replication", before)
    monkeypatch.setattr(server, "wait_for_startup", server.wait_for_startup)
    install()
    assert ha.Ha._process_multisync_replication is not before
    assert server.wait_for_startup is patroni_patience.wait_for_startup
    assert ha.time is time
