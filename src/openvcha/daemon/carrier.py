"""What carries a node: the infrastructure that its identity names. It loads little."""

from pathlib import Path

from openvcha.infrastructure.interface import Infrastructure
from openvcha.infrastructure.local.infrastructure import LocalInfrastructure
from openvcha.infrastructure.local.processes import DetachedStarter
from openvcha.node.identity import Identity
from openvcha.node.process.process_tree import NodeProcesses


def infrastructure_of(identity: Identity) -> Infrastructure:
    """Open the infrastructure that the node lives on. Raises ValueError for an unknown kind."""
    kind = identity.infrastructure.get("kind")
    if kind != "local":
        raise ValueError(f"node.json names an unknown infrastructure {kind!r}")
    root = Path(str(identity.infrastructure["root"]))
    return LocalInfrastructure(root, NodeProcesses(), DetachedStarter())
