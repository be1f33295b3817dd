"""The infrastructure that a node runs on, as its identity names it. It imports little."""

from pathlib import Path

from openvcha.infrastructure.interface import Infrastructure
from openvcha.infrastructure.local.infrastructure import LocalInfrastructure
from openvcha.infrastructure.local.processes import DetachedStarter
from openvcha.node.identity import Identity
from openvcha.node.process.process_tree import NodeProcesses


def node_infrastructure(identity: Identity) -> Infrastructure:
    """Return the infrastructure that the node runs on. Raises ValueError for an unknown kind."""
    kind = identity.infrastructure.get("kind")
    if kind != "local":
        raise ValueError(f"node.json names an unknown infrastructure {kind!r}")
    root = Path(str(identity.infrastructure["root"]))
    return LocalInfrastructure(root, NodeProcesses(), DetachedStarter())
