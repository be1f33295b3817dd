"""Patroni begins also while the store is full: nobody can have a lease, but PostgreSQL can run.

Patroni 4.1 takes a lease before anything else, and waits for it for ever. A store that is full
grants none, so that a standby that was off stayed off, and the active's clients waited for it.
Without a lease Patroni follows who leads. It asks for one in each of its rounds, and cannot lead.
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
    """Extend the loaded Patroni. Raises AttributeError for another Patroni."""
    etcd3 = import_module("patroni.dcs.etcd3")
    for needed in ("retry", "_do_refresh_lease"):
        getattr(etcd3.Etcd3, needed)
    etcd3.Etcd3.create_lease = unless_full(etcd3.Etcd3.create_lease, etcd3.Etcd3ClientError)


def unless_full(original: CreateLease, refusal: type[Exception]) -> CreateLease:
    """Go on without a lease where the store is full; whatever else fails is ``original``'s."""

    def create_lease(self: Any) -> None:
        try:
            self.retry(self._do_refresh_lease)
        except refusal as error:
            if FULL in str(error):
                _log.warning("the store is full; starting without a lease")
                return
        except Exception:  # noqa: BLE001 - the original meets it again, and knows what to do
            _log.debug("no lease yet", exc_info=True)
        original(self)

    return create_lease
