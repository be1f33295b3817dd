"""The publisher of a base backup's progress; after a failure it writes the next report instead."""

import asyncio
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
"""A task reads a report within a second while a node leads, and deletes it at its end. A write
whose reply was lost is repeated, maybe after that: then the report expires."""


class BaseBackupPublisher:
    """A writer of a node's newest report under its key; it skips older reports in the queue."""

    def __init__(
        self,
        store: Store,
        member: str,
        events: Logger,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        on_written: Callable[[BaseBackupReport], None] = lambda _: None,
    ) -> None:
        """``on_written`` is called with each report after it is written."""
        self._store = store
        self._key = keys.base_backup_report(member)
        self._events = events
        self._sleep = sleep
        self._on_written = on_written
        self._lease = RenewedLease(store, LEASE_SECONDS)
        self._newest: BaseBackupReport | None = None
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
            await self._news.wait()
            self._news.clear()
            if self._newest and not await self._written(self._newest):
                self._news.set()
                await self._sleep(RETRY_SECONDS)

    async def _written(self, report: BaseBackupReport) -> bool:
        try:
            lease = await self._lease.renewed()
            await self._store.put(self._key, base_backup_reports.encode(report), lease)
        except StoreError as error:
            self._events.warning("cannot write the base backup report", reason=str(error))
            return False
        self._on_written(report)
        return True
