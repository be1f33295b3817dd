"""Foreign text made safe to display and store.

Printable text cannot move the cursor, hide text or forge a line; truncated text is bounded.
"""

import re
from collections.abc import Callable
from typing import Final

ELLIPSIS: Final = "…"
MAX_SHOWN: Final = 1000
"""Characters of one argument of a message, as shown to a caller."""
MAX_NAME: Final = 64
"""Characters of a name from elsewhere, as shown among other words."""

# Printable for Python, but invisible: joiners, fillers, variation selectors.
_INVISIBLE = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
)
_SUSPECT = re.compile(rf"[^\x20-\x7e\xa1-\xac\xae-\u02ff]|[{_INVISIBLE}]")


def printable(text: str) -> str:
    r"""Replace invisible characters by escapes: ``\x1b``, ``\n``, ``\u202e``; keep the rest.

    Invisible are control, format and line-break characters, surrogates and unassigned ones.
    """
    return _SUSPECT.sub(lambda found: _shown(found[0], _escape), text)


def printable_json(text: str) -> str:
    r"""Replace invisible characters in a JSON text by ``\u001b`` and the like; keep line ends."""
    return _SUSPECT.sub(lambda found: _shown(found[0], _json_escape), text)


def shown_name(name: object) -> str:
    """Return at most MAX_NAME characters of a name from elsewhere, invisible ones as ``?``."""
    return "".join(letter if is_visible(letter) else "?" for letter in str(name)[:MAX_NAME])


def is_visible(letter: str) -> bool:
    """Return whether a terminal displays a character as itself."""
    return letter.isprintable() and not re.match(f"[{_INVISIBLE}]", letter)


def _shown(letter: str, escape: Callable[[str], str]) -> str:
    return letter if is_visible(letter) else escape(letter)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode()


def _json_escape(letter: str) -> str:
    if letter == "\n":
        return letter
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def truncate(text: str, most: int) -> str:
    """Return at most `most` characters of a text; a truncated one ends in ELLIPSIS."""
    return text if len(text) <= most else text[: most - len(ELLIPSIS)] + ELLIPSIS
