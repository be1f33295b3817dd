"""Where a new data node would hold the public address: its host's interface, and its helper."""

import ipaddress

from openvcha.api.messages import message
from openvcha.api.structures import IpSpec, LocalizableMessage
from openvcha.cluster.config import address_text
from openvcha.infrastructure.interface import Placement
from openvcha.infrastructure.inventory import Host, Inventory
from openvcha.node.public_interface import helper_socket
from openvcha.operations.context import Services


async def public_place(
    services: Services,
    inventory: Inventory,
    placement: Placement,
    failover_ip: IpSpec,
    path: str,
) -> tuple[str, tuple[LocalizableMessage, ...]]:
    """Return the interface for the public address of a new data node, and what prevents it.

    The interface is empty where the node takes the active's: its host is no machine of its own, or
    the public address is not on an interface. ``path`` is that of the placement in the request.
    """
    host = inventory.host(placement.host)
    if services.identity.public is None or host is None or host.access is None:
        return "", ()
    address, field = address_text(failover_ip), f"{path}.host"
    interface = interface_for(inventory, host, address)
    if interface is None:
        return "", (message("address.host.network", field, host.name, address),)
    reason = await services.infrastructure.address_obstacle(
        host.id, interface, address, helper_socket(address)
    )
    if not reason:
        return interface, ()
    asked = (field, host.name, address, reason, address, interface)
    return "", (message("address.host.helper", *asked),)


def interface_for(inventory: Inventory, host: Host, address: str) -> str | None:
    """Return the interface of a host whose subnet contains an address: the narrowest one."""
    wanted = ipaddress.ip_address(address)
    found = [
        (ipaddress.ip_network(network.subnet).prefixlen, host.interfaces[network.id])
        for network in inventory.networks
        if network.id in host.interfaces and wanted in ipaddress.ip_network(network.subnet)
    ]
    return max(found)[1] if found else None
