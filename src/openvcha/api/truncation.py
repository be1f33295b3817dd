"""Foreign text, truncated to a length that can be displayed and stored."""

from typing import Final

ELLIPSIS: Final = "…"
MAX_SHOWN: Final = 1000
"""Characters of one argument of a message, as shown to a caller."""


def truncate(text: str, most: int) -> str:
    """Return at most `most` characters of a text; a truncated one ends in ELLIPSIS."""
    return text if len(text) <= most else text[: most - len(ELLIPSIS)] + ELLIPSIS
