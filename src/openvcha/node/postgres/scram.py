"""Verification of a password against PostgreSQL's stored verifier (SCRAM-SHA-256, RFC 5803)."""

import base64
import hashlib
import hmac
from functools import lru_cache

from openvcha.api.secret import Secret

METHOD = "SCRAM-SHA-256"
MAX_ITERATIONS = 100_000
"""PostgreSQL's default is 4096; a count that a user has chosen could take minutes here."""
MOST_KEPT = 8
"""Cached slow results. The same few passwords are verified every ten seconds, and they are in this
process's memory anyway."""


def accepts(verifier: str | None, password: Secret) -> bool:
    """Return whether a stored verifier matches this password; False for an invalid verifier.

    The password must be ASCII, as the cluster's own are; others would have to be normalized first.
    """
    try:
        iterations, salt, stored = _parts(verifier or "")
    except ValueError:
        return False
    salted = _salted(password, salt, iterations)
    key = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(hashlib.sha256(key).digest(), stored)


@lru_cache(maxsize=MOST_KEPT)
def _salted(password: Secret, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.reveal().encode(), salt, iterations)


def _parts(verifier: str) -> tuple[int, bytes, bytes]:
    method, computed, keys = verifier.split("$")
    iterations, salt = computed.split(":")
    count = int(iterations)
    if method != METHOD or not 0 < count <= MAX_ITERATIONS:
        raise ValueError("another method or count")
    stored = keys.split(":")[0]
    return count, base64.b64decode(salt, validate=True), base64.b64decode(stored, validate=True)
