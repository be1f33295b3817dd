"""Names and roles of users, apart from their passwords.

Commands import this one, and not what checks passwords (argon2 costs time at each start).
"""

import enum
import unicodedata


def canonical(name: str) -> str:
    r"""Return ``DOMAIN\user``, as many clients send it, as ``user@DOMAIN``; others unchanged."""
    domain, backslash, user = name.partition("\\")
    return f"{user}@{domain}" if backslash and domain and user and "@" not in user else name


def folded(name: str) -> str:
    """Return a form of a name that is equal for all spellings of the same user."""
    return unicodedata.normalize("NFC", canonical(name)).casefold()


class UserRole(enum.StrEnum):
    """A user's role, with the names that vCenter uses."""

    ADMINISTRATOR = "Administrator"
    READ_ONLY = "ReadOnly"
    NO_ACCESS = "NoAccess"
