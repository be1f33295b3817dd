"""Patroni starts even while the store is full and grants no leases: PostgreSQL can still run.

Patroni 4.1 first requests a lease, and waits for it forever. A full store grants none, so a standby
that was off would stay off, and clients of the active would wait for it.
Without a lease Patroni follows the leader. It requests one in each round, and cannot lead.
"""

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

FULL = "database space exceeded"

_log = logging.getLogger(__name__)

CreateLease = Callable[[Any], None]

REPLACES = {
    "patroni.dcs.etcd3:Etcd3.create_lease": "c0d6e1f2e306c52d",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    etcd3 = import_module("patroni.dcs.etcd3")
    for needed in ("retry", "_do_refresh_lease"):
        getattr(etcd3.Etcd3, needed)
    etcd3.Etcd3.create_lease = without_lease_if_full(
        etcd3.Etcd3.create_lease, etcd3.Etcd3ClientError
    )


def without_lease_if_full(original: CreateLease, refusal: type[Exception]) -> CreateLease:
    """Continue without a lease if the store is full; leave other failures to ``original``."""

    def create_lease(self: Any) -> None:
        try:
            self.retry(self._do_refresh_lease)
        except refusal as error:
            if FULL in str(error):
                _log.warning("the store is full; starting without a lease")
                return
        except Exception:  # noqa: BLE001 - the original raises it again, and handles it
            _log.debug("no lease yet", exc_info=True)
        original(self)

    return create_lease
