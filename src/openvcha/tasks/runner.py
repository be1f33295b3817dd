"""The runner of tasks: only one runs at a time, and it resumes unfinished tasks."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any, Final

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.store import keys
from openvcha.store.errors import Compacted, Fenced, StoreError, StoreUnavailable
from openvcha.store.interface import EventType, Store
from openvcha.store.lease import LeaseLock, campaign
from openvcha.system.repeating import repeat
from openvcha.system.structlog_light import structlog
from openvcha.tasks.execution import Execution, failed, unexpected_error
from openvcha.tasks.journal import RETENTION, Journal, oldest_unfinished
from openvcha.tasks.ledger import RETRY_SECONDS, TaskWriter
from openvcha.tasks.record import TaskRecord, error_record
from openvcha.tasks.steps import Step, TaskContext

LEASE_SECONDS: Final = 5
SWEEP_SECONDS: Final = 3600.0
GIVE_UP_SECONDS: Final = 5.0

Plan = Callable[[TaskRecord], Sequence[Step]]
"""Returns the steps of a task, given its record; always the same ones."""

_log = structlog.get_logger(__name__)


class Runner:
    """Executes the tasks of ``plans`` (by the operation's full id), oldest first.

    ``name`` identifies the runner to people; ``lease_seconds`` is the time after a runner's crash
    until the next one begins.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        plans: Mapping[str, Plan],
        clock: Callable[[], datetime] | None = None,
        *,
        name: str = "",
        lease_seconds: int = LEASE_SECONDS,
    ) -> None:
        self._store = store
        self._journal = journal
        self._plans = plans
        self._clock = clock or journal.clock
        self._name = name
        self._lease_seconds = lease_seconds

    async def run(self) -> None:
        """Run until canceled. A task in progress is resumed by the next runner."""
        while True:
            lock = await campaign(
                self._store, keys.RUNNER, self._name.encode(), self._lease_seconds
            )
            _log.info("runner started", runner=self._name, token=lock.revision)
            async with lock:
                await self._serve_while_leading(lock)
            _log.warning("runner lost its lease", runner=self._name, token=lock.revision)

    async def _serve_while_leading(self, lock: LeaseLock) -> None:
        writer = TaskWriter(self._store, lock.guard)
        try:
            await _first(lock.lost.wait(), self._serve(writer), self._sweep_always(writer))
        except Fenced:
            _log.info("another runner has taken over", token=lock.revision)

    async def _serve(self, writer: TaskWriter) -> None:

        async def work() -> float:
            await self._run_oldest(writer)
            return 0.0

        def failed(reason: str) -> None:
            _log.warning("cannot read the tasks", reason=reason)

        await repeat(work, RETRY_SECONDS, transient=(StoreUnavailable, Compacted), failed=failed)

    async def _run_oldest(self, writer: TaskWriter) -> None:
        """Execute the oldest unfinished task, or wait for one."""
        seen, found = await self._journal.snapshot()
        record = oldest_unfinished(found)
        if record is None:
            await self._changed(seen.revision + 1)
            return
        try:
            await self._execute(writer, record)
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001 - no task may hold the operation forever
            await self._fail(writer, record, error)

    async def _fail(self, writer: TaskWriter, record: TaskRecord, error: Exception) -> None:
        """End a task whose execution failed unexpectedly."""
        incident = secrets.token_hex(8)
        _log.error("a task failed unexpectedly", task=record.id, incident=incident, exc_info=error)
        reason = error_record(unexpected_error(error, incident))
        try:
            await writer.finish(record.id, failed(self._clock(), reason))
        except StoreError as refusal:
            if isinstance(refusal, Fenced):
                raise
            _log.exception("cannot end a task", task=record.id)
            await asyncio.sleep(GIVE_UP_SECONDS)

    async def _changed(self, revision: int) -> None:
        async with aclosing(self._store.watch(keys.TASKS, revision)) as changes:
            async for events in changes:
                if any(event.type is EventType.PUT for event in events):
                    return

    async def _execute(self, writer: TaskWriter, record: TaskRecord) -> None:
        plan = self._plans.get(record.operation_id)
        if plan is None:
            unknown = message("task.plan.unknown", record.operation_id)
            error = error_record(ApiError(ErrorType.ERROR, unknown))
            await writer.finish(record.id, failed(self._clock(), error))
            return
        context = TaskContext(writer, record)
        execution = Execution(writer, context, plan(record), self._clock)
        await _first(execution.run(), self._watch_for_cancel(context))

    async def _watch_for_cancel(self, context: TaskContext) -> None:
        """Pass on a cancel request immediately; never return."""
        while not context.canceled.is_set():
            try:
                async with aclosing(self._journal.watch(context.record.id)) as changes:
                    async for record in changes:
                        if record.cancel_requested:
                            context.canceled.set()
                            break
            except (StoreError, ApiError) as error:
                _log.warning("cannot watch a task", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)
        await asyncio.Event().wait()

    async def _sweep_always(self, writer: TaskWriter) -> None:

        def failed(reason: str) -> None:
            _log.warning("cannot delete old tasks now", reason=reason)

        sweep = partial(self._sweep, writer)
        await repeat(sweep, SWEEP_SECONDS, transient=(StoreUnavailable,), failed=failed)

    async def _sweep(self, writer: TaskWriter) -> None:
        """Delete the tasks that ended longer than RETENTION ago."""
        oldest = self._clock() - RETENTION
        _, found = await self._journal.snapshot()
        for item in found:
            ended = item.record.end_time
            if item.record.finished and ended is not None and ended < oldest:
                await writer.delete(item.kv)


async def _first(*works: Coroutine[Any, Any, Any]) -> None:
    """Run all until the first ends; cancel the others, and raise its exception."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
