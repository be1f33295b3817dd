"""The records that a data node keeps beside its store: what it must not go on without."""

from typing import Final

from openvcha.node.durable import write_durably
from openvcha.node.layout import Layout
from openvcha.store import keys
from openvcha.store.sealed import Good

KEPT: Final = {keys.CLUSTER: "cluster.json", keys.PATRONI_CONFIG: "patroni.json"}


class KeptRecords:
    """Keeps the cluster's configuration and Patroni's, in files of the node.

    A node that has had one must not go on from nothing, whoever has deleted it in the store.
    A file has the revision at which its value was written in a line of its own, then the value.
    """

    def __init__(self, layout: Layout, *, writes: bool) -> None:
        """``writes``: this process is the one that keeps them; the others only look."""
        self._folder = layout.kept_records
        self._writes = writes
        self._values: dict[str, Good | None] = {}

    def keeps(self, key: str) -> bool:
        """Return whether a key is one of the two."""
        return key in KEPT

    def load(self, key: str) -> Good | None:
        """Return what was last found good."""
        if not self._writes or key not in self._values:
            self._values[key] = self._read(key)
        return self._values[key]

    def save(self, key: str, good: Good) -> None:
        """Keep what was found good."""
        if self._writes and good != self.load(key):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_durably(self._folder / KEPT[key], b"%d\n%b" % (good.revision, good.value))
            self._values[key] = good

    def _read(self, key: str) -> Good | None:
        try:
            revision, _, value = (self._folder / KEPT[key]).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        return Good(value, int(revision)) if revision.isdigit() else None


def forget_kept(layout: Layout) -> None:
    """Forget it, for a node that begins anew as a cluster of its own. Raises OSError."""
    for name in KEPT.values():
        (layout.kept_records / name).unlink(missing_ok=True)
