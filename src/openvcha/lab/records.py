"""The cluster's own records, read with the credentials of a node of the lab."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from openvcha.cluster.config import ClusterConfig, cluster_record
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import known_endpoints
from openvcha.node.etcd.sealed_store import sealed_store
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout
from openvcha.node.security.tls import NodeTls
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import Store
from openvcha.store.sealing.cluster_store import SealedEtcd


@asynccontextmanager
async def open_store(directory: Path) -> AsyncIterator[SealedEtcd]:
    """Open the cluster's store as a data node, without the rest of its service."""
    layout, identity = Layout(directory), load_identity(directory)
    endpoints = known_endpoints(identity, layout)
    etcd = Etcd(endpoints, NodeTls(layout), account=NodeAccount(directory))
    async with sealed_store(layout, etcd) as store:
        yield store


async def configuration(store: Store) -> ClusterConfig:
    """Return the cluster's configuration. Raises LookupError if there is none."""
    found = await cluster_record(store).get()
    if found is None:
        raise LookupError("the cluster has no configuration yet")
    return found
