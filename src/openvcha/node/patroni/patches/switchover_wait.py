"""Shorter waits during a switchover: Patroni's fixed sleeps end when their condition holds.

Patroni 4.1 polls once a second or sleeps for whole seconds in four places: until PostgreSQL has
closed its connections and shut down; 1 s for the standby to receive the last record before the
leader key is released; 2 s for another node to take it; until a promotion is complete. Each keeps
its condition and its upper bound; they are only polled more often.
"""

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from openvcha.node.patroni.patches import early_wake_clock
from openvcha.node.patroni.patches.early_wake_clock import EarlyWakeClock

POLL_SECONDS = 0.02
GRACEFUL = "graceful"

Demote = Callable[[Any, str], Any]

REPLACES = {
    "patroni.postgresql:STOP_POLLING_INTERVAL": "6b86b273ff34fce1",
    "patroni.postgresql:Postgresql._wait_promote": "b3d139e9e4eb18eb",
    "patroni.ha:Ha.demote": "ca49268196aa73ec",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    postgresql: Any = import_module("patroni.postgresql")
    ha: Any = import_module("patroni.ha")
    if not postgresql.STOP_POLLING_INTERVAL or not postgresql.Postgresql._wait_promote:  # noqa: SLF001 - there is no other handle
        raise AttributeError("Patroni waits elsewhere")
    postgresql.STOP_POLLING_INTERVAL = POLL_SECONDS
    postgresql.Postgresql._wait_promote = wait_promote  # noqa: SLF001 - see above
    ha.Ha.demote = with_early_wake(ha.Ha.demote, early_wake_clock.clock_of(ha, POLL_SECONDS))


def wait_promote(self: Any, wait_seconds: float) -> bool | None:
    """Wait until PostgreSQL is a primary (True); None if it does not become one in time."""
    until = time.monotonic() + wait_seconds
    while time.monotonic() < until:
        if self.controldata().get("Database cluster state") == "in production":
            self.set_role(import_module("patroni.postgresql.misc").PostgresqlRole.PRIMARY)
            return True
        time.sleep(POLL_SECONDS)
    return None


def with_early_wake(original: Demote, clock: EarlyWakeClock) -> Demote:
    """Run a graceful ``original`` with sleeps that end when their condition holds."""

    def demote(self: Any, mode: str) -> Any:
        if mode != GRACEFUL:
            return original(self, mode)
        handover = Switchover(self)
        self.is_failover_possible = handover.is_failover_possible
        try:
            with clock.until(handover.enough):
                return original(self, mode)
        finally:
            del self.is_failover_possible

    return demote


class Switchover:
    """The conditions that a former leader waits for: the standby's receipt, then a new leader."""

    def __init__(self, high_availability: Any) -> None:
        self._ha = high_availability
        self._ask = high_availability.is_failover_possible
        self._checkpoint: int | None = None
        self._has = 0

    def is_failover_possible(self, *, cluster_lsn: int = 0, **options: Any) -> bool:
        """Return Patroni's result, without asking again for a position that the standby has."""
        return 0 < cluster_lsn <= self._has or bool(self._ask(cluster_lsn=cluster_lsn, **options))

    def enough(self) -> bool:
        """Return whether the condition of the current sleep holds."""
        return self._received() if self._ha.is_leader() else self._taken()

    def _received(self) -> bool:
        """Return whether a standby has the shutdown checkpoint itself, not only what precedes it.

        A PostgreSQL that has exited sends nothing more; then Patroni itself asks once more.
        """
        if not self._ha.state_handler.is_running():
            return True
        if self._checkpoint is None:
            self._checkpoint, _ = self._ha.state_handler.latest_checkpoint_locations()
        if self._checkpoint is None:
            return False
        if self._ask(cluster_lsn=self._checkpoint + 1):
            self._has = self._checkpoint + 1
        return self._has > 0

    def _taken(self) -> bool:
        leader = self._ha.dcs.get_cluster().leader
        return bool(leader) and leader.name != self._ha.state_handler.name
