"""What the reads of one API call must reflect: every write that was over when the call began.

Under load, a proof of the mirror's copy (`mirror.py`) may take longer than it would be fresh. A
call needs only one that began after itself: its client cannot tell the difference.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class CallReads:
    """The reads of one call. ``since``, on the monotonic clock: what they reflect at least.

    It is the call's beginning, or the end of its own latest write.
    """

    since: float


_current: ContextVar[CallReads | None] = ContextVar("reads of the call", default=None)


def current_call() -> CallReads | None:
    """Return the call that the current task works for; None if it works for none, or for many."""
    return _current.get()


@contextmanager
def reads_of_call(began: float) -> Iterator[None]:
    """Relate reads during the block, also those of tasks started in it, to one call.

    Within the block of another call, that call counts.
    """
    token = _current.set(_current.get() or CallReads(began))
    try:
        yield
    finally:
        _current.reset(token)
