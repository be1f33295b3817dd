"""The report of a data node on the public address: whether it holds it, or could not hold it.

An address that is held is reported at once. That it is not held is reported once it has lasted;
until then nothing is known: one bad observation is no verdict. The report has a lease, so that of a
service that has ended or is frozen expires. A node that does not lead reports only why it could not
hold the address.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from openvcha.store import address_reports, keys
from openvcha.store.address_reports import AddressState, Holding
from openvcha.store.errors import StoreError
from openvcha.store.interface import Store
from openvcha.store.lease import RenewedLease
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog

POLL_SECONDS: Final = 1.0
VERDICT_SECONDS: Final = 3.0
"""How long the address must not be held before that is reported."""
RENEW_SECONDS: Final = 5.0
LEASE_SECONDS: Final = 15
"""Shorter than a leader key outlives its holder."""

_log = structlog.get_logger(__name__)


class AddressReporter:
    """The publisher of ``state``, which returns the state of the address as this node knows it.

    ``obstacle`` returns why the node could not hold it while it does not lead.
    """

    def __init__(
        self,
        store: Store,
        member: str,
        state: Callable[[], AddressState],
        *,
        obstacle: Callable[[], AddressState | None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._key = keys.address_report(member)
        self._state = state
        self._obstacle = obstacle
        self._monotonic = monotonic
        self._lease = RenewedLease(store, LEASE_SECONDS)
        self._leads = False
        self._missing_since: float | None = None
        self._published: AddressState | None = None
        self._certain = False
        """Whether ``_published`` is what the store has; a former service may have left a report."""
        self._used_lease = 0
        self._renew_at = 0.0
        self._changed = asyncio.Event()

    def note(self, *, leads: bool) -> None:
        """Report at once what has changed, as the node that leads or does not."""
        if leads != self._leads:
            self._missing_since = None
        self._leads = leads
        self._changed.set()

    async def run(self) -> None:
        """Report until canceled."""

        def failed(reason: str) -> None:
            _log.info("cannot report the public address now", reason=reason)

        await repeat(
            self._report, POLL_SECONDS, transient=(StoreError,), failed=failed, pause=self._pause
        )

    async def _report(self) -> None:
        self._changed.clear()
        told = self._verdict()
        known = self._certain and told == self._published
        if known and not self._is_due(told):
            return
        self._certain = False
        if told is None:
            await self._store.delete(self._key)
        else:
            await self._put(told, known=known)
        self._published, self._certain = told, True

    async def _put(self, told: AddressState, *, known: bool) -> None:
        """Write a report, or only renew the lease of one that the store has."""
        lease = await self._lease.renewed()
        if lease != self._used_lease or not known:
            await self._store.put(self._key, address_reports.encode(told), lease)
        self._used_lease, self._renew_at = lease, self._monotonic() + RENEW_SECONDS

    def _is_due(self, told: AddressState | None) -> bool:
        """Return whether a report has to be renewed."""
        return told is not None and self._monotonic() >= self._renew_at

    def _verdict(self) -> AddressState | None:
        """Return what to report; None while nothing is certain, or nothing is wrong elsewhere."""
        state, now = self._seen(), self._monotonic()
        if state is None or state.holding is Holding.HELD:
            self._missing_since = None
            return state
        if self._missing_since is None:
            self._missing_since = now
        return state if now - self._missing_since >= VERDICT_SECONDS else None

    def _seen(self) -> AddressState | None:
        """Return the state of the address; while another node leads, what would keep it away."""
        if self._leads:
            return self._state()
        return self._obstacle() if self._obstacle else None

    async def _pause(self, seconds: float) -> None:
        looks = self._leads or not self._certain or self._obstacle is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds if looks else None):
                await self._changed.wait()
