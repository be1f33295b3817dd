"""Passwords: argon2id, in a thread, at the same price whether or not there is a user."""

import asyncio
import base64
import contextlib
import secrets
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from openvcha.protocols.turns import Turns

T = TypeVar("T")


class Passwords:
    """Hashes and verifies passwords without holding up the event loop."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._nobody = _unmatchable(self._hasher)
        self._turns = Turns()

    async def hash(self, password: str) -> str:
        """Give the argon2id hash, with its parameters and salt, as one text."""
        async with self._turns.take(None):
            return await _to_its_end(self._hasher.hash, password)

    async def verify(self, known: str | None, password: str, *, source: str | None = None) -> bool:
        """Say whether the password has this hash; None costs the same and is never right.

        ``source`` is who wants to know, None for whoever goes first. Raises Busy.
        """
        async with self._turns.take(source):
            matches = await _to_its_end(self._matches, known or self._nobody, password)
        return matches and known is not None

    def _matches(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except VerificationError:
            return False


async def _to_its_end(work: Callable[..., T], *arguments: str) -> T:
    """Run it in a thread, and end no sooner than the thread does, also when canceled meanwhile.

    A thread cannot be stopped: a place that is free before would let more than there are run.
    """
    thread = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(thread)
    finally:
        while not thread.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([thread])


def _unmatchable(hasher: PasswordHasher) -> str:
    """Make up a hash with the hasher's own parameters, so that trying it takes as long."""
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (hasher.salt_len, hasher.hash_len)
    )
    return f"$argon2id$v=19${costs}${salt}${digest}"
