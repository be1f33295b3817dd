"""A standby's Patroni renews its lease every few seconds, instead of in each of its loops.

Patroni 4.1 renews it once per ``loop_wait``, which is a second here. The renewals of an idle
standby are its only requests to the store, and the lease outlives them by far (``leader_ttl``, at
least 20 s). The leader's own renewal, in each loop, is another one: it decides whether it leads.
"""

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

RENEWAL_SECONDS = 3.0

Refresh = Callable[[Any], bool]

REPLACES = {
    "patroni.dcs.etcd3:Etcd3.refresh_lease": "0e9143b757388e48",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    store = import_module("patroni.dcs.etcd3").Etcd3
    store.refresh_lease = now_and_then(store.refresh_lease)


def now_and_then(original: Refresh, clock: Callable[[], float] = time.monotonic) -> Refresh:
    """Renew a lease that exists only if the last renewal was some seconds ago."""
    renewed: dict[str, float] = {}

    def refresh_lease(self: Any) -> bool:
        if clock() - renewed.get(self._lease, float("-inf")) < RENEWAL_SECONDS:
            return False
        granted = original(self)
        renewed.clear()
        if self._lease:
            renewed[self._lease] = clock()
        return granted

    return refresh_lease
