"""The records that a node keeps beside the store, as the sealed store asks for them."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Good:
    """A value that was found good, and the revision of etcd at which it was written."""

    value: bytes
    revision: int


class Kept(Protocol):
    """The last good value of the few records without which a node must not go on from nothing."""

    def keeps(self, key: str) -> bool:
        """Return whether the record under this key is one of them."""

    def load(self, key: str) -> Good | None:
        """Return what was kept; None: nothing ever was."""

    def save(self, key: str, good: Good) -> None:
        """Keep a value in the place of the one before."""


class KeptNothing:
    """For who has no place to keep anything."""

    def keeps(self, key: str) -> bool:
        """Keep none."""
        del key
        return False

    def load(self, key: str) -> Good | None:
        """Return None: nothing is kept."""
        del key
        return None

    def save(self, key: str, good: Good) -> None:
        """Keep nothing."""
