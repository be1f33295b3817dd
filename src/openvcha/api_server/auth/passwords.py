"""Passwords: argon2id, in threads that give way, as costly where there is no such user."""

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

from openvcha.api_server.auth.password_turns import AT_ONCE, Turns

NICENESS: Final = 3
"""More than the loop's own: half of what it gets, so that a log-in ends on a busy machine."""
LANES: Final = 1
"""Threads for each password; more would take the loop's processor as often as it does itself."""
T = TypeVar("T")


class Passwords:
    """Hashes and verifies passwords without holding up the event loop."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(parallelism=LANES)
        self._nobody = _unmatchable(self._hasher)
        self._turns = Turns()
        # Not those of all other work, which could not be told to give way.
        self._threads = ThreadPoolExecutor(AT_ONCE, "passwords", _give_way)

    async def hash(self, password: str) -> str:
        """Return the argon2id hash, with its parameters and salt, as one text."""
        async with self._turns.take(None):
            return await _to_its_end(self._threads, self._hasher.hash, password)

    async def verify(self, known: str | None, password: str, *, source: str | None = None) -> bool:
        """Return whether the password has this hash; None costs the same and is never right.

        ``source`` is who wants to know, None for whoever goes first. Raises Busy.
        """
        async with self._turns.take(source):
            matches = await _to_its_end(
                self._threads, self._matches, known or self._nobody, password
            )
        return matches and known is not None

    def _matches(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except VerificationError:
            return False


async def _to_its_end(threads: Executor, work: Callable[..., T], *arguments: str) -> T:
    """Run it in a thread, and end no sooner than the thread does, also when canceled meanwhile.

    A thread cannot be stopped: a place that is free before would let more than there are run.
    """
    thread = asyncio.get_running_loop().run_in_executor(threads, work, *arguments)
    try:
        return await asyncio.shield(thread)
    finally:
        while not thread.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([thread])


def _give_way() -> None:
    """Let all other threads of this program go first, above all its loop."""
    # In Linux a thread has a niceness of its own, whatever POSIX says; the highest is 19.
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(own + NICENESS, 19))


def _unmatchable(hasher: PasswordHasher) -> str:
    """Make up a hash with the hasher's own parameters, so that trying it takes as long."""
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (hasher.salt_len, hasher.hash_len)
    )
    return f"$argon2id$v=19${costs}${salt}${digest}"
