"""Names and roles of users, apart from their passwords.

Commands import this one, and not what checks passwords (argon2 costs time at each start).
"""

import enum
import hashlib
import unicodedata
from typing import Final

MAX_NAME_LENGTH: Final = 128
MAX_SPELLING_LENGTH: Final = 2 * MAX_NAME_LENGTH
"""A spelling may be longer than the name: an accent may be a character of its own."""


def canonical(name: str) -> str:
    r"""Return ``DOMAIN\user``, as many clients send it, as ``user@DOMAIN``; others unchanged."""
    domain, backslash, user = name.partition("\\")
    return f"{user}@{domain}" if backslash and domain and user and "@" not in user else name


def folded(name: str) -> str:
    """Return a form of a name that is equal for all spellings of the same user.

    For a spelling that is too long, return a form that no user has: the time of normalizing grows
    with the square of the length, and anybody may send a name.
    """
    if len(name) > MAX_SPELLING_LENGTH:
        return f":{hashlib.sha256(name.encode(errors='replace')).hexdigest()}"
    return unicodedata.normalize("NFC", canonical(name)).casefold()


class UserRole(enum.StrEnum):
    """A user's role, with the names that vCenter uses."""

    ADMINISTRATOR = "Administrator"
    READ_ONLY = "ReadOnly"
    NO_ACCESS = "NoAccess"
