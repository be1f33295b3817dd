"""What is wrong with settings: one finding for each, with its place and what to do."""

from dataclasses import dataclass

from openvcha.api.foreign_text import printable

SHOWN = 60
"""The characters of a wrong value that a finding shows."""


@dataclass(frozen=True)
class Finding:
    """One error: the key it is about, what is wrong, what is allowed or to be done.

    ``line`` is that of the file, from 1; 0 if it is unknown, or the value comes from elsewhere.
    """

    key: str
    text: str
    advice: str
    line: int = 0

    def shown(self, source: str) -> str:
        """Return the finding on one line, with the name of its source."""
        place = f"{source}:{self.line}" if self.line else source
        return f"{place}: {self.key}: {self.text}; {self.advice}"


def quoted(value: object) -> str:
    """Return a wrong value for a finding: printable and short."""
    text = printable(repr(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
