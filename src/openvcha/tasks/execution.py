"""The execution of one task: forward step by step, or back with undo; then its end."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Final

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.file_errors import file_error
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage, TaskProgress, TaskStatus
from openvcha.store.errors import Fenced
from openvcha.system.structlog_light import structlog
from openvcha.tasks.ledger import Change, TaskWriter
from openvcha.tasks.record import TOTAL, ErrorRecord, Phase, TaskRecord, error_record, with_progress
from openvcha.tasks.steps import Canceled, Step, TaskContext
from openvcha.tasks.transient import WaitTimedOut, transient_reason

INITIAL_PAUSE: Final = 0.1
MAX_PAUSE: Final = 5.0

Attempt = Callable[[], Awaitable[None]]


class Execution:
    """Executes one task from its current state.

    Raises Fenced when another runner has taken over, StoreError when the record is unusable.
    """

    def __init__(
        self,
        writer: TaskWriter,
        context: TaskContext,
        steps: Sequence[Step],
        clock: Callable[[], datetime],
    ) -> None:
        self._writer = writer
        self._ctx = context
        self._steps = {step.name: step for step in steps}
        self._clock = clock
        self._log = structlog.get_logger(__name__).bind(
            task=context.record.id, operation=context.record.operation_id
        )
        if len(self._steps) != len(steps):
            raise ValueError("the names of a plan's steps must be unique")

    async def run(self) -> None:
        """Execute the task to its end."""
        if self._ctx.record.phase is Phase.FORWARD:
            error = await self._forward()
            if error is None:
                return
            await self._start_undo(error)
        await self._undo()
        await self._end_failed()

    async def _forward(self) -> ErrorRecord | None:
        """Run all remaining steps; return the error that stopped the task, None on success."""
        try:
            await self._ctx.update(self._begun)
            before = [0, *accumulate(step.weight for step in self._steps.values())]
            for start, step in zip(before, self._steps.values(), strict=False):
                self._ctx.set_span(start, step.weight, max(before[-1], 1))
                await self._retry(step, self._attempt(step))
            await self._writer.finish(self._ctx.record.id, self._succeeded)
        except Exception as error:  # noqa: BLE001 - whatever a step raises, its task ends
            return await self._explained(error)
        self._log.info("task succeeded")
        return None

    def _attempt(self, step: Step) -> Attempt:
        async def attempt() -> None:
            if await step.done(self._ctx):
                return
            await self._ctx.update(lambda old: self._entered(old, step))
            self._log.info("step started", step=step.name)
            await step.act(self._ctx)

        return attempt

    async def _undo(self) -> None:
        """Undo the started steps in reverse order; failures are noted and skipped."""
        for name in reversed(self._ctx.record.started):
            await self._show(message("task.undoing", name))
            failure: tuple[LocalizableMessage, ...] = ()
            if name not in self._steps:
                failure = (message("task.undo.unknown", name),)
            else:
                try:
                    await self._take_back(self._steps[name])
                except Exception as error:  # noqa: BLE001 - the other steps are still undone
                    cause = await self._explained(error)
                    failure = (message("task.undo.failed", name), *cause.messages)
                    failure = (*failure, *await self._left(self._steps[name]))
            await self._ctx.update(_undone(name, failure))

    async def _left(self, step: Step) -> tuple[LocalizableMessage, ...]:
        """Return what a step that could not be undone leaves behind, if it knows."""
        try:
            said = await step.remains(self._ctx)
        except Exception as error:
            if isinstance(error, Fenced):
                raise
            self._log.warning(
                "cannot tell what a step left behind", step=step.name, error=str(error)
            )
            return ()
        return (said,) if said else ()

    async def _take_back(self, step: Step) -> None:
        self._log.info("rolling back step", step=step.name)
        await self._retry(step, lambda: step.undo(self._ctx))

    async def _retry(self, step: Step, attempt: Attempt) -> None:
        """Retry ``attempt`` until it succeeds. Raises WaitTimedOut after the patience or limit."""
        try:
            async with asyncio.timeout(step.limit) as scope:
                await self._retry_until_done(step, attempt)
        except TimeoutError:
            if not scope.expired():
                raise
            late = message("task.step.limit", step.name, f"{step.limit:g}")
            raise WaitTimedOut(late) from None

    async def _retry_until_done(self, step: Step, attempt: Attempt) -> None:
        now = asyncio.get_running_loop().time
        until: float | None = None
        come_to, pause = 0, INITIAL_PAUSE
        while True:
            try:
                return await attempt()
            except Exception as error:
                reason = transient_reason(error)
                if reason is None:
                    raise
            # Progress since the last failure starts a new wait.
            if until is None or self._completed > come_to:
                until, come_to, pause = now() + step.patience, self._completed, INITIAL_PAUSE
            if now() + pause > until:
                tired = message("task.step.patience", step.name, f"{step.patience:g}")
                raise WaitTimedOut(tired, reason)
            await self._show(reason)
            await self._ctx.pause(pause)
            pause = min(2 * pause, MAX_PAUSE)

    @property
    def _completed(self) -> int:
        return self._ctx.record.progress.completed

    async def _explained(self, error: Exception) -> ErrorRecord:
        """Convert the exception that ended a step for storage. Raises Fenced for a lost lock."""
        if isinstance(error, Fenced) and not await self._writer.is_current():
            raise error
        if isinstance(error, Canceled):
            self._log.info("stopping task as requested")
            return error_record(ApiError(ErrorType.CANCELED, message("task.canceled")))
        if isinstance(error, ApiError):
            self._log.warning("step failed", step=self._ctx.record.step, error=str(error))
            return error_record(error)
        incident = secrets.token_hex(8)
        self._log.error("step failed unexpectedly", incident=incident, exc_info=error)
        return error_record(unexpected_error(error, incident))

    async def _show(self, text: LocalizableMessage) -> None:
        if text != self._ctx.record.progress.message:
            await self._ctx.update(
                lambda old: msgspec.structs.replace(old, progress=with_progress(old, None, text))
            )

    async def _start_undo(self, error: ErrorRecord) -> None:
        await self._ctx.update(
            lambda old: msgspec.structs.replace(
                old,
                phase=Phase.UNDO,
                error=error,
                cancelable=False,
                status=TaskStatus.RUNNING,
                start_time=old.start_time or self._clock(),
            )
        )

    async def _end_failed(self) -> None:
        await self._writer.finish(self._ctx.record.id, failed(self._clock()))
        self._log.info("task failed")

    def _begun(self, old: TaskRecord) -> TaskRecord:
        _stop_if_asked(old)
        return msgspec.structs.replace(
            old, status=TaskStatus.RUNNING, start_time=old.start_time or self._clock()
        )

    def _entered(self, old: TaskRecord, step: Step) -> TaskRecord:
        _stop_if_asked(old)
        names = list(self._steps)
        text = message("task.step", names.index(step.name) + 1, len(names), step.name)
        started = old.started if step.name in old.started else (*old.started, step.name)
        return msgspec.structs.replace(
            old,
            step=step.name,
            started=started,
            cancelable=old.may_cancel and step.cancelable,
            progress=with_progress(old, self._ctx.overall_progress(0.0), text),
        )

    def _succeeded(self, old: TaskRecord) -> TaskRecord:
        _stop_if_asked(old)
        return msgspec.structs.replace(
            old,
            status=TaskStatus.SUCCEEDED,
            cancelable=False,
            end_time=self._clock(),
            progress=TaskProgress(
                total=TOTAL,
                completed=TOTAL,
                message=old.leftovers[0] if old.leftovers else message("task.succeeded"),
            ),
        )


def unexpected_error(error: Exception, incident: str) -> ApiError:
    """Return the error of a task that crashed; a refused file operation is named."""
    internal = ApiError(ErrorType.INTERNAL_SERVER_ERROR, message("internal.error", incident))
    return file_error(error) or internal


def failed(now: datetime, error: ErrorRecord | None = None) -> Change:
    """Return the change that ends a task as FAILED.

    The error in its record comes first, then that of ``error``, then the steps that are not undone.
    """

    def change(old: TaskRecord) -> TaskRecord:
        reason = old.error or error
        if old.error and error:
            reason = old.error.followed_by(*error.messages)
        if reason and old.started:
            left = message("task.left", ", ".join(old.started))
            reason = reason.followed_by(left)
        return msgspec.structs.replace(
            old,
            status=TaskStatus.FAILED,
            cancelable=False,
            start_time=old.start_time or now,
            end_time=now,
            error=reason,
        )

    return change


def _undone(name: str, failure: tuple[LocalizableMessage, ...]) -> Change:
    def change(old: TaskRecord) -> TaskRecord:
        if name not in old.started:
            return old
        if not failure:
            started = tuple(other for other in old.started if other != name)
            return msgspec.structs.replace(old, started=started)
        # The step stays in ``started``: the final error names it, and a resume retries its undo.
        if old.error is None or failure[0] in old.error.messages:
            return old
        return msgspec.structs.replace(old, error=old.error.followed_by(*failure))

    return change


def _stop_if_asked(record: TaskRecord) -> None:
    """Check for a cancel request in the transaction itself, so that none is missed."""
    if record.cancel_requested:
        raise Canceled
