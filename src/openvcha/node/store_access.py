"""A node's access to the cluster's store, with its account and the seals of a data node."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.endpoints import data_endpoints
from openvcha.node.etcd.member import known_endpoints
from openvcha.node.etcd.record_keys import RecordKeys
from openvcha.node.identity import Identity, load_identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.sealed_records import KeptRecords
from openvcha.node.security.tls import NodeTls
from openvcha.store.etcd.client import Etcd
from openvcha.store.mirror import Mirror
from openvcha.store.sealing.cluster_store import SealedEtcd
from openvcha.store.sealing.seal import Seals


@asynccontextmanager
async def open_store(directory: Path) -> AsyncIterator[SealedEtcd]:
    """Open the store with the account of the data node in ``directory``."""
    layout = Layout(directory)
    endpoints = known_endpoints(load_identity(directory), layout)
    etcd = Etcd(endpoints, NodeTls(layout), account=NodeAccount(directory))
    async with sealed_store(layout, etcd) as store:
        yield store


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
