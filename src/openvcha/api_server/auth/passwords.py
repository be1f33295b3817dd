"""Passwords: argon2id in low-priority threads; an unknown user costs the same."""

import asyncio
import base64
import contextlib
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from openvcha.api_server.auth.password_queue import MAX_CONCURRENT, PasswordQueue

NICENESS: Final = 3
"""Added to the event loop's niceness: half its share, so a login completes on a busy machine."""
LANES: Final = 1
"""Argon2 threads per password; more would compete with the event loop for its processor."""
T = TypeVar("T")


class Passwords:
    """A hasher and verifier of passwords that does not block the event loop."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(parallelism=LANES)
        self._dummy_hashed = _dummy_hash(self._hasher)
        self._queue = PasswordQueue()
        # Not the default executor: the priority of its threads must not change.
        self._threads = ThreadPoolExecutor(MAX_CONCURRENT, "passwords", _lower_priority)

    async def hash(self, password: str) -> str:
        """Return the argon2id hash, with its parameters and salt, as one string."""
        async with self._queue.slot(None):
            return await _run_to_completion(self._threads, self._hasher.hash, password)

    async def verify(self, known: str | None, password: str, *, source: str | None = None) -> bool:
        """Return whether the password has this hash; None takes as long and never matches.

        ``source`` is the request's address; with None it takes precedence. Raises QueueFull.
        """
        async with self._queue.slot(source):
            matches = await _run_to_completion(
                self._threads, self._matches, known or self._dummy_hashed, password
            )
        return matches and known is not None

    def _matches(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except VerificationError:
            return False


async def _run_to_completion(threads: Executor, work: Callable[..., T], *arguments: str) -> T:
    """Run ``work`` in a thread, and return only after it has ended, even if canceled.

    A thread cannot be stopped: releasing its slot early would let too many run.
    """
    thread = asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
    try:
        return await asyncio.shield(thread)
    finally:
        while not thread.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([thread])


def _lower_priority() -> None:
    """Lower this thread's priority below that of the others, above all the event loop."""
    # In Linux each thread has its own niceness, unlike in POSIX; the highest is 19.
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(own + NICENESS, 19))


def _dummy_hash(hasher: PasswordHasher) -> str:
    """Return a hash with the hasher's own parameters that no password matches."""
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (hasher.salt_len, hasher.hash_len)
    )
    return f"$argon2id$v=19${costs}${salt}${digest}"
