"""VMs of an infrastructure, as tests create and look at them."""

from openvcha.infrastructure.interface import Infrastructure, NodeRequest
from openvcha.infrastructure.inventory import Vm


async def created(infrastructure: Infrastructure, request: NodeRequest) -> Vm:
    """Create a VM, or continue its creation, and return it."""
    creation = await infrastructure.begin(request)
    while not creation.done:
        creation = await infrastructure.observe(creation)
    return await vm_of(infrastructure, creation.vm or "")


async def vm_of(infrastructure: Infrastructure, vm_id: str) -> Vm:
    """Return a VM of the inventory, with its power measured now."""
    vm = (await infrastructure.inventory(power=True)).vm(vm_id)
    assert vm is not None
    return vm
