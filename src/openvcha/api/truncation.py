"""Foreign text, truncated to a length that can be displayed and stored."""

from typing import Final

MARK: Final = "…"
LONGEST_SHOWN: Final = 1000
"""Characters of one argument of a message, as a caller reads it."""


def cut(text: str, most: int) -> str:
    """Return at most `most` characters of a text; a truncated one ends in MARK."""
    return text if len(text) <= most else text[: most - len(MARK)] + MARK
