"""The cluster's store, with a node's access rights."""

from collections.abc import Collection
from functools import partial

from openvcha.node.etcd.endpoints import data_endpoints
from openvcha.node.etcd.record_keys import RecordKeys
from openvcha.node.identity import Identity, load_identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.sealed_records import KeptRecords
from openvcha.store.etcd.client import Etcd
from openvcha.store.mirror import Mirror
from openvcha.store.sealing.cluster_store import SealedEtcd
from openvcha.store.sealing.seal import Seals


def cluster_store(
    identity: Identity, layout: Layout, etcd: Etcd, *, keeps: bool = False
) -> Etcd | SealedEtcd:
    """Return the cluster's store for a node; on a witness without seals: it cannot verify them."""
    if not identity.holds_data:
        return etcd
    return sealed_store(layout, etcd, keeps=keeps)


def sealed_store(
    layout: Layout, etcd: Etcd, *, keeps: bool = False, mirror: Mirror | None = None
) -> SealedEtcd:
    """Return the cluster's store for a data node.

    ``keeps``: it keeps a local copy of the configuration. It reads through ``mirror``, a mirror of
    ``etcd``.
    """
    seals = Seals(RecordKeys(layout.root))
    kept = KeptRecords(layout, writes=keeps)
    return SealedEtcd(etcd, seals, kept, partial(_trusted, layout), mirror)


def _trusted(layout: Layout, record: bytes | None, voters: Collection[str] | None) -> list[str]:
    return data_endpoints(load_identity(layout.root), layout, record, voters)
