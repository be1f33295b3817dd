"""The publisher of a base backup's progress; after a failure it writes the next report instead."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Self

from openvcha.node.process.logs import Logger
from openvcha.node.process.supervised_loop import run_forever
from openvcha.store import base_backup_reports, keys
from openvcha.store.base_backup_reports import BaseBackupReport
from openvcha.store.errors import StoreError
from openvcha.store.interface import Store
from openvcha.store.lease import RenewedLease

RETRY_SECONDS = 1.0
LEASE_SECONDS = 3600
"""A task deletes the report at its end. A write whose reply was lost is repeated, maybe after
that: then the report expires some time after this node's program has ended."""
RENEWAL_SECONDS = LEASE_SECONDS / 4
"""How often a report is kept: no node may lead for hours, and the task resumes only after that."""


async def _ignore(_: BaseBackupReport) -> None:
    """Do nothing with a report that is written."""


class BaseBackupPublisher:
    """A writer of a node's newest report under its key; it skips older reports in the queue."""

    def __init__(
        self,
        store: Store,
        member: str,
        events: Logger,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        on_written: Callable[[BaseBackupReport], Awaitable[None]] = _ignore,
    ) -> None:
        """``on_written`` is awaited with each report once it is written, again after OSError."""
        self._store = store
        self._key = keys.base_backup_report(member)
        self._events = events
        self._sleep = sleep
        self._on_written = on_written
        self._lease = RenewedLease(store, LEASE_SECONDS)
        self._newest: BaseBackupReport | None = None
        self._stored: BaseBackupReport | None = None
        self._news = asyncio.Event()

    def publish(self, report: BaseBackupReport) -> None:
        """Queue a report for writing."""
        self._newest = report
        self._news.set()

    async def __aenter__(self) -> Self:
        """Start writing reports."""
        work = run_forever("base backup reports", self._run, self._events)
        self._task = asyncio.create_task(work, name="base backup reports")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; the node's next start publishes the rest."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEWAL_SECONDS):
                    await self._news.wait()
            if not self._news.is_set():
                await self._keep()
                continue
            self._news.clear()
            if self._newest and not await self._written(self._newest):
                self._news.set()
                await self._sleep(RETRY_SECONDS)

    async def _keep(self) -> None:
        """Keep the report that is stored from expiring, unless the task has deleted it."""
        try:
            if self._stored and await self._store.get(self._key):
                await self._lease.renewed()
        except StoreError as error:
            self._events.warning("cannot keep the base backup report", reason=str(error))

    async def _written(self, report: BaseBackupReport) -> bool:
        try:
            # Not again only because the rest failed: the task may have deleted it by now.
            if report is not self._stored:
                lease = await self._lease.renewed()
                await self._store.put(self._key, base_backup_reports.encode(report), lease)
                self._stored = report
            await self._on_written(report)
        except (StoreError, OSError) as error:
            self._events.warning("cannot write the base backup report", reason=str(error))
            return False
        return True
