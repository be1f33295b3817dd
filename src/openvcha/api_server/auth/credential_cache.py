"""A cache of valid credentials, so that Basic authentication on each request is cheap."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

MAX_ENTRIES = 1024


class CredentialCache:
    """A cache that keeps valid credentials for some seconds, as digests under a process-local key.

    `generation` ties an entry to one password of one user: a changed password voids it.
    """

    def __init__(
        self, seconds: float = 60.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._until: dict[bytes, float] = {}

    def remember(self, user: str, password: str, generation: str) -> None:
        """Remember these credentials as valid."""
        digest = self._digest(user, password, generation)
        self._until.pop(digest, None)
        if len(self._until) >= MAX_ENTRIES:
            del self._until[next(iter(self._until))]
        self._until[digest] = self._monotonic() + self._seconds

    def knows(self, user: str, password: str, generation: str) -> bool:
        """Return whether these credentials were recently valid."""
        until = self._until.get(self._digest(user, password, generation))
        return until is not None and self._monotonic() < until

    def _digest(self, *parts: str) -> bytes:
        data = b"".join(hashlib.sha256(part.encode()).digest() for part in parts)
        return hmac.digest(self._key, data, "sha256")
