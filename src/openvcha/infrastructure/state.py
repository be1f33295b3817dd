"""The state of an inventory as it is stored: in a file, or in the store of the cluster."""

import msgspec

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.infrastructure.inventory import Inventory

VERSION = 1
MAX_HOSTS = 64
MAX_NETWORKS = 64
MAX_DATASTORES = 256
MAX_VMS = 256


class State(msgspec.Struct, kw_only=True, frozen=True):
    """An inventory, and the number of its next item, which only grows: no identifier is reused.

    In a file, its paths are relative to the root, so that a root can be moved while all VMs are
    off.
    """

    version: int = VERSION
    next_number: int = msgspec.field(name="next_vm")
    inventory: Inventory


def require_room(state: State) -> None:
    """Raise ApiError UNABLE_TO_ALLOCATE_RESOURCE if the inventory has too many items of a kind."""
    inventory = state.inventory
    for kind, items, most in (
        ("hosts", inventory.hosts, MAX_HOSTS),
        ("networks", inventory.networks, MAX_NETWORKS),
        ("datastores", inventory.datastores, MAX_DATASTORES),
        ("virtual machines", inventory.vms, MAX_VMS),
    ):
        if len(items) > most:
            said = message("inventory.full", most, kind)
            fail(ErrorType.UNABLE_TO_ALLOCATE_RESOURCE, said)


prepare(__name__)
