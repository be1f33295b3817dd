"""Patroni's fixed waits in the path of a repair, made to end when their reason does.

Two places of Patroni 4.1 sleep for whole seconds: the start of PostgreSQL is polled once a second,
and a new synchronous standby is looked at again 2 s after it was named. Both keep their condition
and their upper bound here; only the looking is more frequent. Nothing else of Patroni is changed.
"""

import threading
import time
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

LOOK_SECONDS = 0.1


def install() -> None:
    """Replace both waits in the loaded Patroni. Raises AttributeError for another Patroni."""
    postgresql, ha = (import_module(name) for name in ("patroni.postgresql", "patroni.ha"))
    postgresql.Postgresql.wait_for_startup = wait_for_startup
    patient = ha.Ha._process_multisync_replication  # noqa: SLF001 - there is no other handle
    ha.Ha._process_multisync_replication = impatient(patient, ha)  # noqa: SLF001 - see above


def wait_for_startup(self: Any, timeout: float = 0) -> bool | None:
    """Wait until PostgreSQL has started (True) or failed (False); None when told to stop."""
    while not self.check_startup_state_changed():
        if self.cancellable.is_cancelled or (timeout and self.time_in_state() > timeout):
            return None
        time.sleep(LOOK_SECONDS)
    return bool(self.state == "running")


def impatient(original: Callable[[Any], None], module: ModuleType) -> Callable[[Any], None]:
    """Run ``original`` so that its sleeps end as soon as the named standby is confirmed."""

    def process(self: Any) -> None:
        patient = module.time
        module.time = _Clock(patient, lambda: _confirmed(self))  # type: ignore[attr-defined]  # as Patroni imports it
        try:
            original(self)
        finally:
            module.time = patient  # type: ignore[attr-defined]  # see above

    return process


def _confirmed(high_availability: Any) -> bool:
    """Look anew: is every standby that PostgreSQL names also one that it waits for?"""
    postgresql = high_availability.state_handler
    postgresql.reset_cluster_info_state(None)
    found = postgresql.sync_handler.current_state(high_availability.cluster)
    return bool(found.sync and found.sync_confirmed == found.sync)


class _Clock:
    """The module ``time`` for one thread's sleeps; other threads get the real one."""

    def __init__(self, real: Any, enough: Callable[[], bool]) -> None:
        self._real = real
        self._enough = enough
        self._thread = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def sleep(self, seconds: float) -> None:
        """Sleep no longer than needed, and no longer than asked."""
        if threading.get_ident() != self._thread:
            self._real.sleep(seconds)
            return
        until = self._real.monotonic() + seconds
        while (left := until - self._real.monotonic()) > 0 and not self._enough():
            self._real.sleep(min(LOOK_SECONDS, left))
