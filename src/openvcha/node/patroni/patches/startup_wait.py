"""Shorter waits during a repair: Patroni's fixed sleeps end when their condition holds.

Patroni 4.1 sleeps for whole seconds in two places: it polls the start of PostgreSQL once a second,
and checks a new synchronous standby 2 s after naming it. Both keep their condition and their upper
bound; they are only polled more often. The waits of a switchover are in ``switchover_wait``.
"""

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from openvcha.node.patroni.patches import early_wake_clock
from openvcha.node.patroni.patches.early_wake_clock import EarlyWakeClock

POLL_SECONDS = 0.1

REPLACES = {
    "patroni.postgresql:Postgresql.wait_for_startup": "ccd16b4c2a7d7cda",
    "patroni.ha:Ha._process_multisync_replication": "20beca4a228036a5",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    postgresql, ha = (import_module(name) for name in ("patroni.postgresql", "patroni.ha"))
    postgresql.Postgresql.wait_for_startup = wait_for_startup
    clock = early_wake_clock.clock_of(ha, POLL_SECONDS)
    patient = ha.Ha._process_multisync_replication  # noqa: SLF001 - there is no other handle
    ha.Ha._process_multisync_replication = with_early_wake(patient, clock)  # noqa: SLF001 - see above


def wait_for_startup(self: Any, timeout: float = 0) -> bool | None:
    """Wait until PostgreSQL has started (True) or failed (False); None if ordered to stop."""
    while not self.check_startup_state_changed():
        if self.cancellable.is_cancelled or (timeout and self.time_in_state() > timeout):
            return None
        time.sleep(POLL_SECONDS)
    return bool(self.state == "running")


def with_early_wake(
    original: Callable[[Any], None], clock: EarlyWakeClock
) -> Callable[[Any], None]:
    """Run ``original`` with sleeps that end as soon as the named standby is confirmed."""

    def process(self: Any) -> None:
        with clock.until(lambda: _confirmed(self)):
            original(self)

    return process


def _confirmed(high_availability: Any) -> bool:
    """Return whether PostgreSQL now waits for every standby that it names."""
    postgresql = high_availability.state_handler
    postgresql.reset_cluster_info_state(None)
    found = postgresql.sync_handler.current_state(high_availability.cluster)
    return bool(found.sync and found.sync_confirmed == found.sync)
