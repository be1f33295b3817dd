"""What a task is about, in the API's form."""

from openvcha.api.structures import DynamicID
from openvcha.cluster.config import NodeConfig


def vm_target(node: NodeConfig | None) -> DynamicID | None:
    """Return a node's VM as a task's target; None if its VM is unknown here."""
    return DynamicID(type="VirtualMachine", id=node.vm) if node and node.vm else None
