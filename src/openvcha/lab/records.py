"""The cluster's own records, read with the credentials of a node of the lab."""

from openvcha.cluster.config import ClusterConfig, cluster_record
from openvcha.store.interface import Store


async def configuration(store: Store) -> ClusterConfig:
    """Return the cluster's configuration. Raises LookupError if there is none."""
    found = await cluster_record(store).get()
    if found is None:
        raise LookupError("the cluster has no configuration yet")
    return found
