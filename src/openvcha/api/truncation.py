"""Texts that others have made, cut to a length that can be shown, and kept."""

from typing import Final

MARK: Final = "…"
LONGEST_SHOWN: Final = 1000
"""Characters of one argument of a message, as a caller reads it."""


def cut(text: str, most: int) -> str:
    """Return at most so many characters of a text; one that was cut ends in MARK."""
    return text if len(text) <= most else text[: most - len(MARK)] + MARK
