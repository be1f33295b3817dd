"""The writer of the runner: every write is fenced, waits for the store, and is idempotent."""

import asyncio
from collections.abc import Callable
from typing import Final

from openvcha.store import keys
from openvcha.store.errors import Fenced, RecordMissing, StoreUnavailable
from openvcha.store.interface import Action, Compare, Delete, Get, KeyValue, Put, Store, unchanged
from openvcha.store.records import decode, encode
from openvcha.system.structlog_light import structlog
from openvcha.tasks.record import TaskRecord

RETRY_SECONDS: Final = 0.2

Change = Callable[[TaskRecord], TaskRecord]

_log = structlog.get_logger(__name__)


class TaskWriter:
    """Writes the records of tasks for the runner that holds the key of ``guard``.

    While the store is unavailable its methods wait, until the lock is lost. They raise Fenced when
    another runner has taken over; then nothing was written.
    """

    def __init__(self, store: Store, guard: Compare) -> None:
        self._store = store
        self.guard = guard

    async def update(self, task_id: str, change: Change) -> TaskRecord:
        """Write ``change(record)``, even if it is equal, and return it.

        ``change`` is pure and idempotent; if it raises, nothing is written. Raises RecordMissing.
        """
        return await self._persist(task_id, change, ending=False)

    async def finish(self, task_id: str, change: Change) -> TaskRecord:
        """Write the end of a task and free the operation, in one transaction.

        It deletes the required votes even if the hold is gone: no other task is executing.
        A task that has already ended stays unchanged.
        """
        return await self._persist(task_id, change, ending=True)

    async def is_current(self) -> bool:
        """Return whether no other runner has taken over."""
        while True:
            try:
                return (await self._store.txn([self.guard], [])).succeeded
            except StoreUnavailable as error:
                await _wait(error)

    async def delete(self, kv: KeyValue) -> None:
        """Delete a record unless it has changed since it was read."""
        await self._write([unchanged(kv)], [Delete(kv.key)])

    async def _persist(self, task_id: str, change: Change, *, ending: bool) -> TaskRecord:
        while True:
            try:
                kv, old = await self._read(task_id)
                if ending and old.finished:
                    return old
                new = change(old)
                compares: list[Compare] = [unchanged(kv)]
                actions: list[Action] = [Put(kv.key, encode(new), kv.lease)]
                if ending:
                    actions.append(Delete(keys.REQUIRED_VOTES))
                    if (freed := await self._operation_of(task_id)) is not None:
                        compares.append(unchanged(freed))
                        actions.append(Delete(freed.key))
                if await self._write(compares, actions):
                    return new
            except StoreUnavailable as error:
                # After an unknown outcome, read the record again: the change is idempotent.
                await _wait(error)

    async def _read(self, task_id: str) -> tuple[KeyValue, TaskRecord]:
        kv = await self._store.get(keys.task(task_id))
        if kv is None:
            raise RecordMissing(f"task {task_id} is not there")
        return kv, decode(kv, TaskRecord)

    async def _operation_of(self, task_id: str) -> KeyValue | None:
        kv = await self._store.get(keys.OPERATION)
        return kv if kv is not None and kv.value == task_id.encode() else None

    async def _write(self, compares: list[Compare], actions: list[Action]) -> bool:
        """Return whether the write succeeded; False when another writer interfered."""
        result = await self._store.txn([self.guard, *compares], actions, [Get(self.guard.key)])
        if not result.succeeded:
            holder = result.results[0]
            if not holder or holder[0].create_revision != self.guard.operand:
                raise Fenced("another runner has taken over")
        return result.succeeded


async def _wait(error: StoreUnavailable) -> None:
    _log.warning("the store cannot be reached; the task waits", reason=str(error))
    await asyncio.sleep(RETRY_SECONDS)
