"""The local inventory on disk: one file that many processes read and write.

A writer holds a lock on a file beside it and rereads the inventory under that lock. Readers need
no lock, because the file is only ever replaced as a whole.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.infrastructure.local.files import make_directory
from openvcha.infrastructure.state import VERSION, State
from openvcha.system.files.durable import write_durably
from openvcha.system.files.locks import locked, try_lock
from openvcha.system.files.regular_files import read_regular

ResultT = TypeVar("ResultT")


class LockTimeout(Exception):  # noqa: N818 - named as in the standard library
    """Another process has held a lock for too long."""


class StateFile:
    """The state file below a root directory. Its methods block: call them in a thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "inventory.json"

    def load(self) -> State:
        """Return the state. Raises ApiError RESOURCE_INACCESSIBLE when it is unreadable."""
        try:
            state = msgspec.json.decode(read_regular(self.path), type=State)
        except (OSError, msgspec.DecodeError) as error:
            fail(
                ErrorType.RESOURCE_INACCESSIBLE,
                message("infrastructure.none", self.root, error),
            )
        if state.version != VERSION:
            reason = f"its version is {state.version}"
            fail(ErrorType.RESOURCE_INACCESSIBLE, message("infrastructure.none", self.root, reason))
        return state

    def create(self, state: State) -> State:
        """Write the initial state, or return the existing one."""
        make_directory(self.root)
        with self._locked():
            if self.path.exists():
                return self.load()
            self._save(state)
            return state

    def change(self, step: Callable[[State], tuple[State, ResultT]]) -> ResultT:
        """Replace the state by the result of `step`, exclusively among all processes."""
        with self._locked():
            before = self.load()
            after, result = step(before)
            if after != before:
                self._save(after)
            return result

    def _save(self, state: State) -> None:
        content = msgspec.json.encode(state)
        write_durably(self.path, msgspec.json.format(content, indent=1) + b"\n")

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self.root / "inventory.lock")


@asynccontextmanager
async def exclusive(path: Path, poll: float, limit: float) -> AsyncIterator[None]:
    """Hold a lock file during the block, among coroutines and processes.

    Raises LockTimeout when it is not free within `limit` seconds; tries every `poll` seconds.
    """
    handle = await _lock(path, poll, limit)
    try:
        yield
    finally:
        _unlock(path, handle)


async def _lock(path: Path, poll: float, limit: float) -> int:
    try:
        async with asyncio.timeout(limit):
            while (handle := try_lock(path)) is None:  # noqa: ASYNC110 - processes share no Event
                await asyncio.sleep(poll)
            return handle
    except TimeoutError:
        raise LockTimeout(f"{path} is still locked after {limit} s") from None


def _unlock(path: Path, handle: int) -> None:
    """Remove the file while it is locked, so that a waiting process notices."""
    path.unlink(missing_ok=True)
    os.close(handle)
