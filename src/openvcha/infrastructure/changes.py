"""Changes of an inventory, as pure functions from one state to the next."""

from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any, NoReturn, TypeVar

from msgspec.structs import replace

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.structures import DatastoreType, HostConnectionState, InventoryNetworkType
from openvcha.infrastructure.interface import Placement, VmRequest
from openvcha.infrastructure.inventory import (
    Datastore,
    Entity,
    Host,
    HostAccess,
    Inventory,
    Network,
    Vm,
    VmNetworks,
)
from openvcha.infrastructure.skeleton import (
    CLUSTER,
    DATACENTER,
    DATASTORE_FOLDER,
    HOST_FOLDER,
    NETWORK_FOLDER,
)
from openvcha.infrastructure.state import State

EntityT = TypeVar("EntityT", bound=Entity)


Step = Callable[[State], tuple[State, EntityT]]
"""A change that returns the item it is about. It may raise ApiError."""


def add_vm(
    state: State,
    request: VmRequest,
    bios_uuid: str,
    check: Callable[[PurePath], object] = lambda _: None,
) -> tuple[State, Vm]:
    """Return the state with the requested VM, or with the existing one of this token.

    ``check`` may refuse the directory of a new VM. Raises ApiError like `Infrastructure.begin`.
    """
    inventory = state.inventory
    made = inventory.vm_by_token(request.token)
    if made is not None and made.deleting:
        fail_deleting(made)
    if made is not None:
        return state, made
    place = request.placement
    datastore = _check_placement(inventory, place)
    directory = PurePath(datastore.path) / place.name
    check(directory)
    vm = Vm(
        id=f"vm-{state.next_number}",
        name=place.name,
        token=request.token,
        bios_uuid=bios_uuid,
        host=place.host,
        folder=place.folder,
        resource_pool=place.resource_pool,
        datastore=place.datastore,
        networks=VmNetworks(ha=place.ha_network, management=place.management_network),
        addresses=request.addresses,
        directory=str(directory),
    )
    after = replace(inventory, vms=(*inventory.vms, vm))
    return replace(state, next_number=state.next_number + 1, inventory=after), vm


def mark_deleting(
    vm_id: str, *, deleting: bool = True
) -> Callable[[State], tuple[State, Vm | None]]:
    """Mark a VM as being deleted, or not; the step returns the VM, or None if it is missing."""

    def mark(state: State) -> tuple[State, Vm | None]:
        vm = state.inventory.vm(vm_id)
        if vm is None:
            return state, None
        gone = replace(vm, deleting=deleting)
        vms = tuple(gone if other.id == vm_id else other for other in state.inventory.vms)
        return replace(state, inventory=replace(state.inventory, vms=vms)), gone

    return mark


def remove_vm(vm_id: str) -> Callable[[State], tuple[State, None]]:
    """Remove a VM from the inventory."""

    def remove(state: State) -> tuple[State, None]:
        vms = tuple(vm for vm in state.inventory.vms if vm.id != vm_id)
        return replace(state, inventory=replace(state.inventory, vms=vms)), None

    return remove


def set_host(
    host_id: str, connection_state: HostConnectionState | None, maintenance: bool | None
) -> Callable[[State], tuple[State, None]]:
    """Change the given properties of a host. The step raises ApiError NOT_FOUND."""

    def change(host: Host) -> Host:
        if connection_state is not None:
            host = replace(host, connection_state=connection_state)
        return host if maintenance is None else replace(host, maintenance=maintenance)

    def step(state: State) -> tuple[State, None]:
        inventory = state.inventory
        _known(inventory.host(host_id), host_id)
        hosts = tuple(change(host) if host.id == host_id else host for host in inventory.hosts)
        return replace(state, inventory=replace(inventory, hosts=hosts)), None

    return step


def set_reserved(datastore_id: str, reserved: int) -> Callable[[State], tuple[State, None]]:
    """Set a datastore's reserved bytes. The step raises ApiError NOT_FOUND."""

    def step(state: State) -> tuple[State, None]:
        inventory = state.inventory
        _known(inventory.datastore(datastore_id), datastore_id)
        datastores = tuple(
            replace(item, reserved=reserved) if item.id == datastore_id else item
            for item in inventory.datastores
        )
        return replace(state, inventory=replace(inventory, datastores=datastores)), None

    return step


def fail_deleting(vm: Vm) -> NoReturn:
    """Raise the ApiError of a VM that is being deleted."""
    fail(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("infrastructure.vm.deleting", vm.name))


def _check_placement(inventory: Inventory, place: Placement) -> Datastore:
    taken = inventory.vm_by_name(place.name)
    if taken is not None:
        exists = message("infrastructure.vm.exists", place.name, taken.id)
        fail(ErrorType.ALREADY_EXISTS, exists)
    if place.name in ("", ".", "..") or "/" in place.name or "\0" in place.name:
        fail(ErrorType.INVALID_ARGUMENT, message("infrastructure.vm.name", repr(place.name)))
    wanted: Iterable[tuple[Entity | None, str]] = (
        (inventory.folder(place.folder), place.folder),
        (inventory.host(place.host), place.host),
        (inventory.resource_pool(place.resource_pool), place.resource_pool),
        (inventory.network(place.ha_network), place.ha_network),
        (inventory.network(place.management_network), place.management_network),
    )
    for entity, identifier in wanted:
        _known(entity, identifier)
    return _known(inventory.datastore(place.datastore), place.datastore)


def _known(entity: EntityT | None, identifier: str) -> EntityT:
    if entity is None:
        fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", identifier))
    return entity


def add_host(name: str, uuid: str, access: HostAccess) -> Step[Host]:
    """Add a host that accesses nothing yet. The step raises ApiError ALREADY_EXISTS."""

    def step(state: State) -> tuple[State, Host]:
        hosts = state.inventory.hosts
        _require_free(hosts, name)
        host = Host(
            id=f"host-{state.next_number}",
            name=name,
            uuid=uuid,
            access=access,
            datacenter=DATACENTER,
            cluster=CLUSTER,
            folder=HOST_FOLDER,
        )
        return _grown(state, hosts=(*hosts, host)), host

    return step


def add_network(name: str, subnet: str) -> Step[Network]:
    """Add a network that no host accesses yet. The step raises ApiError ALREADY_EXISTS."""

    def step(state: State) -> tuple[State, Network]:
        networks = state.inventory.networks
        _require_free(networks, name)
        network = Network(
            id=f"network-{state.next_number}",
            name=name,
            type=InventoryNetworkType.STANDARD_PORTGROUP,
            datacenter=DATACENTER,
            folder=NETWORK_FOLDER,
            subnet=subnet,
        )
        return _grown(state, networks=(*networks, network)), network

    return step


def add_datastore(name: str, path: str, host_id: str) -> Step[Datastore]:
    """Add a directory of a host. The step raises ApiError ALREADY_EXISTS, NOT_FOUND (host)."""

    def step(state: State) -> tuple[State, Datastore]:
        datastores = state.inventory.datastores
        _require_free(datastores, name)
        datastore = Datastore(
            id=f"datastore-{state.next_number}",
            name=name,
            type=DatastoreType.VMFS,
            datacenter=DATACENTER,
            folder=DATASTORE_FOLDER,
            path=path,
        )
        grown = _grown(state, datastores=(*datastores, datastore))
        after, _ = _with_host(
            grown, host_id, lambda host: replace(host, datastores=host.datastores | {datastore.id})
        )
        return after, datastore

    return step


def attach_network(host_id: str, network_id: str, interface: str) -> Step[Host]:
    """Set a host's interface to a network. The step raises ApiError NOT_FOUND."""

    def step(state: State) -> tuple[State, Host]:
        _known(state.inventory.network(network_id), network_id)
        return _with_host(
            state,
            host_id,
            lambda host: replace(
                host,
                networks=host.networks | {network_id},
                interfaces={**host.interfaces, network_id: interface},
            ),
        )

    return step


def set_access(host_id: str, access: HostAccess) -> Step[Host]:
    """Change how a host is reached. The step raises ApiError NOT_FOUND."""
    return lambda state: _with_host(state, host_id, lambda host: replace(host, access=access))


def remove_host(host_id: str, *, abandon: bool = False) -> Step[Host]:
    """Remove a host and its own datastores; with ``abandon``, also the VMs to be deleted there.

    The step raises ApiError: NOT_FOUND, RESOURCE_IN_USE (a VM is on it, or is to be deleted there).
    """

    def step(state: State) -> tuple[State, Host]:
        inventory = state.inventory
        host = _known(inventory.host(host_id), host_id)
        on_it = [vm for vm in inventory.vms if vm.host == host_id]
        _require_unused(host, on_it)
        if on_it and not abandon:
            said = message("hosts.owed", host.name, ", ".join(vm.name for vm in on_it))
            fail(ErrorType.RESOURCE_IN_USE, said)
        hosts = tuple(other for other in inventory.hosts if other.id != host_id)
        shared = frozenset().union(*(other.datastores for other in hosts))
        after = replace(
            inventory,
            hosts=hosts,
            vms=tuple(vm for vm in inventory.vms if vm.host != host_id),
            datastores=tuple(
                one
                for one in inventory.datastores
                if one.id in shared or one.id not in host.datastores
            ),
        )
        return replace(state, inventory=after), host

    return step


def remove_network(network_id: str) -> Step[Network]:
    """Remove a network. The step raises ApiError: NOT_FOUND, RESOURCE_IN_USE (a VM uses it)."""

    def step(state: State) -> tuple[State, Network]:
        inventory = state.inventory
        network = _known(inventory.network(network_id), network_id)
        users = [
            vm
            for vm in inventory.vms
            if network_id in {vm.networks.ha, vm.networks.management} and not vm.deleting
        ]
        _require_unused(network, users)
        hosts = tuple(
            replace(
                host,
                networks=host.networks - {network_id},
                interfaces={
                    name: one for name, one in host.interfaces.items() if name != network_id
                },
            )
            for host in inventory.hosts
        )
        networks = tuple(one for one in inventory.networks if one.id != network_id)
        return replace(state, inventory=replace(inventory, hosts=hosts, networks=networks)), network

    return step


def remove_datastore(datastore_id: str) -> Step[Datastore]:
    """Remove a datastore. The step raises ApiError: NOT_FOUND, RESOURCE_IN_USE (a VM is on it)."""

    def step(state: State) -> tuple[State, Datastore]:
        inventory = state.inventory
        datastore = _known(inventory.datastore(datastore_id), datastore_id)
        _require_unused(datastore, [vm for vm in inventory.vms if vm.datastore == datastore_id])
        after = replace(
            inventory,
            hosts=tuple(
                replace(host, datastores=host.datastores - {datastore_id})
                for host in inventory.hosts
            ),
            datastores=tuple(one for one in inventory.datastores if one.id != datastore_id),
        )
        return replace(state, inventory=after), datastore

    return step


def _grown(state: State, **items: Any) -> State:
    """Return the state with one more item, which has used the next number."""
    after = replace(state.inventory, **items)
    return replace(state, next_number=state.next_number + 1, inventory=after)


def _with_host(state: State, host_id: str, change: Callable[[Host], Host]) -> tuple[State, Host]:
    inventory = state.inventory
    changed = change(_known(inventory.host(host_id), host_id))
    hosts = tuple(changed if host.id == host_id else host for host in inventory.hosts)
    return replace(state, inventory=replace(inventory, hosts=hosts)), changed


def _require_free(items: Iterable[Entity], name: str) -> None:
    """Refuse a name that another item of the same kind has, ignoring case."""
    for item in items:
        if item.name.casefold() == name.casefold():
            fail(ErrorType.ALREADY_EXISTS, message("infrastructure.vm.exists", name, item.id))


def _require_unused(item: Entity, vms: Iterable[Vm]) -> None:
    """Refuse to remove what a VM needs, unless the VM is being deleted."""
    names = [vm.name for vm in vms if not vm.deleting]
    if names:
        said = message("inventory.in.use", item.name, ", ".join(names))
        fail(ErrorType.RESOURCE_IN_USE, said)
