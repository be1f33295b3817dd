"""Sleeps end early for a caller that gave a reason, and for no other."""

import threading
import time
from types import SimpleNamespace

import pytest
from tests.support.simulated.clock import Time

from openvcha.node.patroni.patches.early_wake_clock import EarlyWakeClock, clock_of


def test_a_sleep_ends_with_its_reason_or_with_its_time() -> None:
    """Never later than requested."""
    time = Time()
    clock = EarlyWakeClock(time, 0.1)
    with clock.until(lambda: time.now > 0.45):
        clock.sleep(2.0)
    assert time.now == pytest.approx(0.5)
    with clock.until(lambda: False):
        clock.sleep(0.25)
    assert time.now == pytest.approx(0.75)


def test_without_a_reason_it_is_the_clock_that_it_stands_in_for() -> None:
    """Even after a block that failed."""
    time = Time()
    clock = EarlyWakeClock(time, 0.1)
    with pytest.raises(KeyError), clock.until(lambda: True):
        raise KeyError
    clock.sleep(3.0)
    assert clock.monotonic() == time.now == pytest.approx(3.0)


def test_other_threads_sleep_as_long_as_they_ask() -> None:
    """Patroni's other threads use the same module at the same time."""
    clock = EarlyWakeClock(time, 0.01)
    slept: list[float] = []

    def elsewhere() -> None:
        begun = time.monotonic()
        clock.sleep(0.3)
        slept.append(time.monotonic() - begun)

    with clock.until(lambda: True):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert slept[0] >= 0.3


def test_a_module_gets_one_clock_whoever_asks() -> None:
    """Two that each installed and restored their own could leave the wrong one."""
    module = SimpleNamespace(time=time)
    assert clock_of(module, 0.1) is clock_of(module, 0.02)
    assert module.time.monotonic() > 0
    with pytest.raises(AttributeError):
        clock_of(SimpleNamespace(), 0.1)
