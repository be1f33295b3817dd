"""What a task is made of, and what a step is given to work with."""

import asyncio
from collections.abc import Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import msgspec

from openvcha.api.structures import LocalizableMessage
from openvcha.store.interface import Compare
from openvcha.tasks.ledger import Change, Ledger
from openvcha.tasks.record import TOTAL, Phase, TaskRecord, bounded_part, moved, plain

T = TypeVar("T")


class Temporary(Exception):  # noqa: N818 - says what it is: it may pass by itself
    """Something that may pass: the step is tried again; ``reason`` is shown meanwhile."""

    def __init__(self, reason: LocalizableMessage) -> None:
        super().__init__(reason.default_message)
        self.reason = reason


class Canceled(Exception):  # noqa: N818 - a request that is followed, not an error
    """The task was asked to stop and stands at a safe point."""


class Step(Protocol):
    """One step of a task. Subclass it for the defaults.

    A step may be started any number of times, also after a crash in the middle of ``act`` or
    ``undo``, so each of its methods must do no harm when repeated. It looks at what *is*; what it
    decided before it acted it finds again in ``ctx.state``. Its methods may raise ApiError (final),
    Temporary or StoreUnavailable (tried again with back-off for ``patience`` seconds from the
    first such failure), or Canceled through ``ctx.checkpoint``. An OSError that names a file is
    told as it is, and tried again where there may be room later; all else is an internal error.
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
    """Seconds after which the step is interrupted and fails, None for never. Anew on a resume."""

    async def done(self, ctx: "TaskContext") -> bool:
        """Return whether the step's postcondition holds; then it is skipped."""

    async def act(self, ctx: "TaskContext") -> None:
        """Make the postcondition hold."""

    async def undo(self, ctx: "TaskContext") -> None:
        """Take back what ``act`` did: all, some or nothing of it. Not called for a skipped step."""

    async def left(self, ctx: "TaskContext") -> LocalizableMessage | None:  # noqa: ARG002
        """Return what is still there, in words, when ``undo`` has failed; None where nothing is."""
        return None


class TaskContext:
    """A step's view of its task. All writes are durable when they return.

    Writes wait for the store while it is unavailable, and raise Fenced once another runner has
    taken over.
    """

    def __init__(self, ledger: Ledger, record: TaskRecord) -> None:
        self._ledger = ledger
        self._span = (0, 0, 1)
        self.record = record
        self.canceled = asyncio.Event()
        if record.cancel_requested:
            self.canceled.set()

    @property
    def state(self) -> Mapping[str, Any]:
        """What the steps of this task remember; changed only by ``remember``."""
        return MappingProxyType(self.record.state)

    @property
    def guard(self) -> Compare:
        """The condition under which a write of this task is still its own.

        Give it to every transaction of a step (``guards=[ctx.guard]``): a runner that was
        superseded without noticing then changes nothing.
        """
        return self._ledger.guard

    async def remember(self, **values: Any) -> None:
        """Keep values for later steps and later lives; they must be plain JSON or structures.

        Raises TypeError for a secret, ValueError when the state grows too large.
        """
        added = {name: plain(value) for name, value in values.items()}
        bounded_part({**self.record.state, **added})
        await self.update(lambda old: msgspec.structs.replace(old, state={**old.state, **added}))

    async def result(self, value: Any) -> None:
        """Set the task's result. Raises TypeError for a secret, ValueError when too large."""
        made = bounded_part(value)
        await self.update(lambda old: msgspec.structs.replace(old, result=made))

    async def progress(self, fraction: float, text: LocalizableMessage | None = None) -> None:
        """Report how much of this step is done (0 to 1), and in words what is going on.

        The whole task's progress follows by the weights and never falls. What changes nothing
        is not written.
        """
        completed = self.reached(fraction)
        if moved(self.record, completed, text) != self.record.progress:
            await self.update(
                lambda old: msgspec.structs.replace(old, progress=moved(old, completed, text))
            )

    async def checkpoint(self) -> None:
        """Mark a safe point. Raises Canceled when the task was asked to stop."""
        if self._stopping:
            raise Canceled

    async def interruptible(self, work: Coroutine[Any, Any, T]) -> T:
        """Do ``work``, which may be stopped anywhere; a cancel request ends it at once.

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
        """Sleep, but not longer than until a cancel request. Raises Canceled then."""
        await self.interruptible(asyncio.sleep(seconds))

    async def update(self, change: Change) -> None:
        """Change the record by a pure function; for the runner, steps have better means."""
        self.record = await self._ledger.update(self.record.id, change)

    def reached(self, fraction: float) -> int:
        """Return what the whole task has completed at this fraction of the current step."""
        before, weight, total = self._span
        share = min(max(fraction, 0.0), 1.0) if self.record.phase is Phase.FORWARD else 0.0
        return int(TOTAL * (before + weight * share) / total)

    def set_span(self, before: int, weight: int, total: int) -> None:
        """Set which part of the task's progress the current step is; for the runner."""
        self._span = (before, weight, total)

    @property
    def _stopping(self) -> bool:
        return self.canceled.is_set() and self.record.phase is Phase.FORWARD
