"""Access to the cluster's store on a data node, without the rest of its service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import known_endpoints
from openvcha.node.etcd.sealed_store import sealed_store
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout
from openvcha.node.security.tls import NodeTls
from openvcha.store.etcd.client import Etcd
from openvcha.store.sealing.cluster_store import SealedEtcd


@asynccontextmanager
async def open_store(directory: Path) -> AsyncIterator[SealedEtcd]:
    """Open the store with the account of the data node in ``directory``."""
    layout = Layout(directory)
    endpoints = known_endpoints(load_identity(directory), layout)
    etcd = Etcd(endpoints, NodeTls(layout), account=NodeAccount(directory))
    async with sealed_store(layout, etcd) as store:
        yield store
