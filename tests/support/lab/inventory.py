"""An inventory of a lab, as a value."""

from openvcha.infrastructure.inventory import Inventory, Vm, VmNetworks


def _vm(identifier: str, name: str) -> Vm:
    return Vm(
        id=identifier,
        name=name,
        token=name,
        bios_uuid=name,
        host="host-11",
        folder="group-v3",
        resource_pool="resgroup-9",
        datastore="datastore-14",
        networks=VmNetworks(ha="network-15", management="network-12"),
        directory=name,
    )


INVENTORY = Inventory(vms=(_vm("vm-42", "vcha-1"), _vm("vm-43", "vcha-2")))
