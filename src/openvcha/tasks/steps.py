"""The steps of a task, and the context that a step works with."""

import asyncio
from collections.abc import Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import msgspec

from openvcha.api.structures import LocalizableMessage
from openvcha.store.interface import Compare
from openvcha.tasks.ledger import Change, TaskWriter
from openvcha.tasks.record import (
    TOTAL,
    Phase,
    TaskRecord,
    bounded_part,
    to_plain,
    with_progress,
    with_reason,
)

T = TypeVar("T")


class TemporaryFailure(Exception):  # noqa: N818 - reads as what it is
    """A failure that may pass: the step is retried; ``reason`` is shown meanwhile."""

    def __init__(self, reason: LocalizableMessage) -> None:
        super().__init__(reason.default_message)
        self.reason = reason


class Canceled(Exception):  # noqa: N818 - a request that is followed, not an error
    """The task was asked to stop and has reached a safe point."""


class Step(Protocol):
    """One step of a task. Subclass it for the defaults.

    A step may be started any number of times, also after a crash in the middle of ``act`` or
    ``undo``, so its methods must be idempotent. It observes what *is*; its earlier decisions are
    in ``ctx.state``. Its methods may raise ApiError (final), TemporaryFailure or StoreUnavailable
    (retried with back-off for ``patience`` seconds from the first such failure), or Canceled
    through ``ctx.checkpoint``. An OSError that names a file is reported as such, and retried if it
    may pass; anything else is an internal error.
    """

    name: str
    """Unique in its plan, and kept in records: do not rename lightly."""
    weight: int = 1
    """Its share of the progress, relative to the other steps'."""
    cancelable: bool = True
    """Whether the task may be stopped while this step acts."""
    patience: float = 60.0
    """Seconds."""
    limit: float | None = None
    """Seconds after which the step is interrupted and fails; None: never. Restarts on a resume."""

    async def done(self, ctx: "TaskContext") -> bool:
        """Return whether the step's postcondition holds; then it is skipped."""

    async def act(self, ctx: "TaskContext") -> None:
        """Make the postcondition hold."""

    async def undo(self, ctx: "TaskContext") -> None:
        """Revert what ``act`` did: all, part or nothing of it. Not called for a skipped step."""

    async def remains(self, ctx: "TaskContext") -> LocalizableMessage | None:  # noqa: ARG002
        """Return what is left, for people, after ``undo`` has failed; None: nothing."""
        return None


class TaskContext:
    """A step's view of its task. All writes are durable when they return.

    Writes wait for the store while it is unavailable, and raise Fenced once another runner has
    taken over.
    """

    def __init__(self, writer: TaskWriter, record: TaskRecord) -> None:
        self._writer = writer
        self._span = (0, 0, 1)
        self.record = record
        self.canceled = asyncio.Event()
        if record.cancel_requested:
            self.canceled.set()

    @property
    def state(self) -> Mapping[str, Any]:
        """Return what the steps of this task have stored with ``remember``."""
        return MappingProxyType(self.record.state)

    @property
    def guard(self) -> Compare:
        """Return the condition under which this runner still owns the task.

        Pass it to every transaction of a step (``guards=[ctx.guard]``): a runner that does not
        know yet that another one has taken over then changes nothing.
        """
        return self._writer.guard

    async def remember(self, **values: Any) -> None:
        """Store values for later steps and for a resume; plain JSON or structures.

        Raises TypeError for a secret, ValueError when the state grows too large.
        """
        added = {name: to_plain(value) for name, value in values.items()}
        bounded_part({**self.record.state, **added})
        await self.update(lambda old: msgspec.structs.replace(old, state={**old.state, **added}))

    async def result(self, value: Any) -> None:
        """Set the task's result. Raises TypeError for a secret, ValueError when too large."""
        made = bounded_part(value)
        await self.update(lambda old: msgspec.structs.replace(old, result=made))

    async def leave(self, *texts: LocalizableMessage) -> None:
        """Set what the task leaves behind although it succeeds, in place of what was set before."""
        if texts != self.record.leftovers:
            await self.update(lambda old: msgspec.structs.replace(old, leftovers=texts))

    async def add_reason(self, text: LocalizableMessage) -> None:
        """Add a text to the error of a task that is being rolled back; idempotent."""
        await self.update(lambda old: with_reason(old, text))

    async def progress(self, fraction: float, text: LocalizableMessage | None = None) -> None:
        """Report the completed fraction of this step (0 to 1), and what it is doing.

        The task's progress is weighted and never decreases. Unchanged progress is not written.
        """
        completed = self.overall_progress(fraction)
        if with_progress(self.record, completed, text) != self.record.progress:
            await self.update(
                lambda old: msgspec.structs.replace(
                    old, progress=with_progress(old, completed, text)
                )
            )

    async def checkpoint(self) -> None:
        """Mark a safe point. Raises Canceled when the task was asked to stop."""
        if self._stopping:
            raise Canceled

    async def interruptible(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work``, which may be stopped anywhere; a cancel request stops it at once.

        Raises Canceled then, after ``work`` has cleaned up; otherwise what ``work`` raises.
        """
        if self._stopping:
            work.close()
            raise Canceled
        doing = asyncio.create_task(work)
        asked = asyncio.create_task(self.canceled.wait())
        waited = [doing, asked] if self.record.phase is Phase.FORWARD else [doing]
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            doing.cancel()
            await asyncio.wait([doing, asked])
        if doing.cancelled():
            raise Canceled
        return doing.result()

    async def pause(self, seconds: float) -> None:
        """Sleep; a cancel request ends the sleep. Raises Canceled then."""
        await self.interruptible(asyncio.sleep(seconds))

    async def update(self, change: Change) -> None:
        """Change the record by a pure function; for the runner."""
        self.record = await self._writer.update(self.record.id, change)

    def overall_progress(self, fraction: float) -> int:
        """Return the task's completed units at this fraction of the current step."""
        before, weight, total = self._span
        share = min(max(fraction, 0.0), 1.0) if self.record.phase is Phase.FORWARD else 0.0
        return int(TOTAL * (before + weight * share) / total)

    def set_span(self, before: int, weight: int, total: int) -> None:
        """Set the current step's share of the task's progress; for the runner."""
        self._span = (before, weight, total)

    @property
    def _stopping(self) -> bool:
        return self.canceled.is_set() and self.record.phase is Phase.FORWARD
