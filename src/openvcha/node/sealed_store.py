"""The cluster's store as a node may use it, and what a data node keeps of it beside itself."""

from typing import Final

from openvcha.node.durable import write_durably
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.record_keys import RecordKeys
from openvcha.store import keys
from openvcha.store.etcd import Etcd
from openvcha.store.seal import Seals
from openvcha.store.sealed import Good
from openvcha.store.sealed_etcd import SealedEtcd

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


def cluster_store(
    identity: Identity, layout: Layout, etcd: Etcd, *, keeps: bool = False
) -> Etcd | SealedEtcd:
    """Return the cluster's store as a node may use it: a witness can check nothing."""
    if not identity.holds_data:
        return etcd
    return sealed_store(layout, etcd, keeps=keeps)


def sealed_store(layout: Layout, etcd: Etcd, *, keeps: bool = False) -> SealedEtcd:
    """Return the cluster's store as a data node uses it; ``keeps``: it keeps the configuration."""
    seals = Seals(RecordKeys(layout.root))
    return SealedEtcd(etcd, seals, KeptRecords(layout, writes=keeps))
