"""Names of users, as they are compared."""

import unicodedata


def canonical(name: str) -> str:
    r"""Write ``DOMAIN\user``, as many clients send it, as ``user@DOMAIN``; others stay."""
    domain, backslash, user = name.partition("\\")
    return f"{user}@{domain}" if backslash and domain and user and "@" not in user else name


def folded(name: str) -> str:
    """Write a name so that all that mean the same user are equal."""
    return unicodedata.normalize("NFC", canonical(name)).casefold()
