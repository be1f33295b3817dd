"""The last good values that a node keeps outside the store."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class GoodValue:
    """A verified value, and the revision at which etcd wrote it."""

    value: bytes
    revision: int


class LastGood(Protocol):
    """The last good values of the few records that a node must not lose."""

    def keeps(self, key: str) -> bool:
        """Return whether the record under this key is kept."""

    def load(self, key: str) -> GoodValue | None:
        """Return the last good value; None if there never was one."""

    def save(self, key: str, good: GoodValue) -> None:
        """Replace the last good value."""


class NoLastGood:
    """A LastGood that keeps nothing, for programs without a place for it."""

    def keeps(self, key: str) -> bool:
        """Return False."""
        del key
        return False

    def load(self, key: str) -> GoodValue | None:
        """Return None."""
        del key
        return None

    def save(self, key: str, good: GoodValue) -> None:
        """Do nothing."""
