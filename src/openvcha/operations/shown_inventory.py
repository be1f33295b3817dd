"""The inventory as operations show it, also on a node that cannot read it.

Decisions read the inventory itself and wait, or fail, while it cannot be read.
"""

from msgspec.structs import replace

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import VmPowerState
from openvcha.infrastructure.inventory import Inventory
from openvcha.infrastructure.records import read_seen
from openvcha.operations.context import Services


async def shown_inventory(services: Services, *, power: bool = False) -> Inventory | None:
    """Return the inventory, or the copy in the store, which says how old it is; None: neither.

    With ``power`` the copy shows as on those nodes of the cluster that respond.
    """
    try:
        return await services.infrastructure.inventory(power=power)
    except ApiError as error:
        if error.error_type is not ErrorType.RESOURCE_INACCESSIBLE:
            raise
    seen = await read_seen(services.store, services.journal.clock())
    return await _with_responding(services, seen) if seen and power else seen


async def _with_responding(services: Services, inventory: Inventory) -> Inventory:
    observed = await services.observe_cached()
    up = {node.config.vm for node in observed.nodes if node.up}
    on, off = VmPowerState.POWERED_ON, VmPowerState.POWERED_OFF
    vms = tuple(replace(vm, power_state=on if vm.id in up else off) for vm in inventory.vms)
    return replace(inventory, vms=vms)
