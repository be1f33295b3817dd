"""The infrastructure that a node runs on, as its identity names it. It imports little."""

from pathlib import Path

import msgspec

from openvcha.infrastructure.interface import Infrastructure
from openvcha.infrastructure.local.infrastructure import LocalInfrastructure
from openvcha.infrastructure.local.processes import DetachedStarter
from openvcha.infrastructure.unmanaged import UnmanagedMachines
from openvcha.node.identity import UNMANAGED, Identity
from openvcha.node.process.process_tree import NodeProcesses


def node_infrastructure(identity: Identity) -> Infrastructure:
    """Return the infrastructure that the node runs on. Raises ValueError for an unknown kind."""
    kind = identity.infrastructure.get("kind")
    if kind == UNMANAGED:
        return UnmanagedMachines(msgspec.structs.astuple(identity.ports))
    if kind != "local":
        raise ValueError(f"node.json names an unknown infrastructure {kind!r}")
    root = Path(str(identity.infrastructure["root"]))
    return LocalInfrastructure(root, NodeProcesses(), DetachedStarter())
