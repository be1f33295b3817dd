"""The records that a data node keeps beside its store: what it must not go on without."""

from typing import Final

from openvcha.node.layout import Layout
from openvcha.store import keys
from openvcha.store.sealing.kept import Good
from openvcha.system.durable import write_durably

CONFIGURATIONS: Final = {keys.CLUSTER: "cluster.json", keys.PATRONI_CONFIG: "patroni.json"}
ROLL: Final = "roll.json"
KEPT: Final = {**CONFIGURATIONS, keys.ROLL: ROLL}


class KeptRecords:
    """Keeps the cluster's configuration, Patroni's, and the roll, in files of the node.

    A node that has had one must not go on from nothing, whoever has deleted it in the store.
    A file has the revision at which its value was written (the roll's number) in a line of its own,
    then the value.
    """

    def __init__(self, layout: Layout, *, writes: bool) -> None:
        """``writes``: this process is the one that keeps them; the others only look."""
        self._folder = layout.kept_records
        self._writes = writes
        self._values: dict[str, Good | None] = {}
        self._stamps: dict[str, tuple[int, int, int] | None] = {}

    def keeps(self, key: str) -> bool:
        """Return whether a key is one of them."""
        return key in KEPT

    def load(self, key: str) -> Good | None:
        """Return what was last found good: the same object, as long as it is the same."""
        if key not in self._values or not self._writes:
            stamp = self._stamp(key)
            if key not in self._values or stamp != self._stamps.get(key):
                self._values[key] = self._read(key)
                self._stamps[key] = stamp
        return self._values[key]

    def save(self, key: str, good: Good) -> None:
        """Keep what was found good."""
        if self._writes and good != self.load(key):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_durably(self._folder / KEPT[key], b"%d\n%b" % (good.revision, good.value))
            self._values[key] = good

    def _stamp(self, key: str) -> tuple[int, int, int] | None:
        """Return what is another one with each file that is put in the place of the one before."""
        try:
            found = (self._folder / KEPT[key]).stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self, key: str) -> Good | None:
        try:
            revision, _, value = (self._folder / KEPT[key]).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        return Good(value, int(revision)) if revision.isdigit() else None


def roll_file(layout: Layout) -> dict[str, bytes]:
    """Return the roll as this node keeps it, as a file of a new node. Raises OSError."""
    try:
        return {f"{layout.kept_records.name}/{ROLL}": (layout.kept_records / ROLL).read_bytes()}
    except FileNotFoundError:
        return {}


def forget_kept(layout: Layout) -> None:
    """Forget both configurations, for a node that begins anew as a cluster of its own.

    The roll stays: its users and tokens are who they were. Raises OSError.
    """
    for name in CONFIGURATIONS.values():
        (layout.kept_records / name).unlink(missing_ok=True)
