"""The infrastructure that a node runs on, as its identity names it. It imports little."""

from pathlib import Path

import msgspec

from openvcha.infrastructure.interface import Infrastructure
from openvcha.infrastructure.local.infrastructure import LocalInfrastructure
from openvcha.infrastructure.local.processes import DetachedStarter
from openvcha.infrastructure.unmanaged import UnmanagedMachines
from openvcha.node.identity import HOSTS, UNMANAGED, Identity
from openvcha.node.layout import Layout
from openvcha.node.process.process_tree import NodeProcesses
from openvcha.store.interface import Store


def node_infrastructure(
    identity: Identity, layout: Layout, store: Store | None = None
) -> Infrastructure:
    """Return the infrastructure that the node runs on. Raises ValueError for an unknown kind.

    Without the ``store``, one whose inventory is there only has the node's copy of it.
    """
    kind = identity.infrastructure.get("kind")
    if kind == UNMANAGED:
        return UnmanagedMachines(msgspec.structs.astuple(identity.ports))
    if kind == HOSTS:
        return _hosts(layout, store)
    if kind != "local":
        raise ValueError(f"node.json names an unknown infrastructure {kind!r}")
    root = Path(str(identity.infrastructure["root"]))
    return LocalInfrastructure(root, NodeProcesses(), DetachedStarter())


def _hosts(layout: Layout, store: Store | None) -> Infrastructure:
    # Only this kind needs a library of SSH, which is large.
    from openvcha.infrastructure.hosts.infrastructure import HostsInfrastructure  # noqa: PLC0415
    from openvcha.infrastructure.hosts.kept_inventory import KeptInventory  # noqa: PLC0415
    from openvcha.infrastructure.hosts.ssh import Login, Ssh  # noqa: PLC0415
    from openvcha.infrastructure.hosts.ssh_agents import SshAgents  # noqa: PLC0415
    from openvcha.infrastructure.records import InventoryRecord  # noqa: PLC0415

    record = InventoryRecord(store) if store is not None else None
    inventory = KeptInventory(record, layout.hosts_inventory)
    return HostsInfrastructure(inventory, SshAgents(Ssh(Login((layout.ssh_key,)))))
