"""Local copies of the records that a data node must not continue without."""

import os
from typing import Final

from openvcha.node.layout import Layout
from openvcha.store import keys
from openvcha.store.sealing.kept import GoodValue
from openvcha.system.files.durable import write_durably

CONFIGURATIONS: Final = {keys.CLUSTER: "cluster.json", keys.PATRONI_CONFIG: "patroni.json"}
ROLL: Final = "roll.json"
KEPT: Final = {**CONFIGURATIONS, keys.ROLL: ROLL}


class KeptRecords:
    """Copies of the cluster's configuration, Patroni's, and the roll, in files of the node.

    A node that has had one must not start over without it, even if it was deleted in the store. The
    first line of a file is the revision of its value (for the roll, its number); the value follows.
    The one process that ``writes`` changes the files; the others only read them.
    """

    def __init__(self, layout: Layout, *, writes: bool) -> None:
        self._folder = layout.kept_records
        self._paths = {key: str(self._folder / name) for key, name in KEPT.items()}
        self._writes = writes
        self._values: dict[str, GoodValue | None] = {}
        self._stamps: dict[str, tuple[int, int, int] | None] = {}

    def keeps(self, key: str) -> bool:
        """Return whether a key is one of these records."""
        return key in KEPT

    def load(self, key: str) -> GoodValue | None:
        """Return the last valid value: the same object until it changes."""
        if key not in self._values or not self._writes:
            stamp = self._stamp(key)
            if key not in self._values or stamp != self._stamps.get(key):
                self._values[key] = self._read(key)
                self._stamps[key] = stamp
        return self._values[key]

    def save(self, key: str, good: GoodValue) -> None:
        """Keep a valid value."""
        if self._writes and good != self.load(key):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_durably(self._folder / KEPT[key], b"%d\n%b" % (good.revision, good.value))
            self._values[key] = good

    def _stamp(self, key: str) -> tuple[int, int, int] | None:
        """Return a value that changes whenever the file is replaced.

        Each of the API's reads of the store calls this.
        """
        try:
            found = os.stat(self._paths[key])  # noqa: PTH116 - Path's own takes twice as long
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self, key: str) -> GoodValue | None:
        try:
            revision, _, value = (self._folder / KEPT[key]).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        return GoodValue(value, int(revision)) if revision.isdigit() else None


def roll_file(layout: Layout) -> dict[str, bytes]:
    """Return this node's copy of the roll, as a file for a new node. Raises OSError."""
    try:
        return {f"{layout.kept_records.name}/{ROLL}": (layout.kept_records / ROLL).read_bytes()}
    except FileNotFoundError:
        return {}


def forget_kept(layout: Layout) -> None:
    """Delete the copies of both configurations, for a node that becomes stand-alone.

    The roll stays: users and tokens remain valid. Raises OSError.
    """
    for name in CONFIGURATIONS.values():
        (layout.kept_records / name).unlink(missing_ok=True)
