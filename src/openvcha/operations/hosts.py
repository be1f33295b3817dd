"""The hosts of an inventory that the cluster itself keeps: adding, listing, changing, removing."""

import ipaddress
import re
from pathlib import PurePosixPath
from typing import NoReturn

from msgspec.structs import replace

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.structures import (
    HostAddSpec,
    HostDatastoreInfo,
    HostInfo,
    HostNetworkInfo,
    HostRemoveSpec,
    HostSetSpec,
)
from openvcha.infrastructure import changes
from openvcha.infrastructure.hosts.address import UnusableAddress, parse_address
from openvcha.infrastructure.hosts.host_key import UnusableHostKey, checked, fingerprint
from openvcha.infrastructure.inventory import Host, HostAccess, Inventory, Network
from openvcha.infrastructure.records import InventoryRecord
from openvcha.infrastructure.state import State
from openvcha.node.identity import HOSTS
from openvcha.operations.caller import Caller
from openvcha.operations.context import Services

DEFAULT_USER = "openvcha"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}", re.ASCII)
INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}", re.ASCII)
PATH = re.compile(r"(/[A-Za-z0-9_.@+-]+)+", re.ASCII)


async def list_hosts(services: Services, caller: Caller) -> tuple[HostInfo, ...]:
    """Return all hosts. Raises ApiError NOT_ALLOWED_IN_CURRENT_STATE."""
    del caller
    _require_hosts(services)
    stored = (await InventoryRecord(services.store).load()).inventory
    seen = await services.infrastructure.inventory()
    return tuple(_info(stored, _connected(seen, host)) for host in stored.hosts)


async def add_host(services: Services, caller: Caller, spec: HostAddSpec) -> HostInfo:
    """Add a host with its datastores and networks, all or nothing.

    A network is shared by all hosts that name its subnet. Raises ApiError: INVALID_ARGUMENT,
    ALREADY_EXISTS, NOT_ALLOWED_IN_CURRENT_STATE, UNABLE_TO_ALLOCATE_RESOURCE.
    """
    del caller
    _require_hosts(services)
    access = _access(HostAccess(address=""), spec)
    _require(NAME.fullmatch(spec.name), "hosts.name", spec.name)
    for path in spec.datastores:
        plain = PATH.fullmatch(path) and ".." not in PurePosixPath(path).parts
        _require(plain, "hosts.path", path)
    subnets = [_subnet(network.subnet) for network in spec.networks]
    for network in spec.networks:
        _require(INTERFACE.fullmatch(network.interface), "hosts.interface", network.interface)

    def step(state: State) -> tuple[State, Host]:
        state, host = changes.add_host(spec.name, "", access)(state)
        for path in spec.datastores:
            state, _ = changes.add_datastore(f"{spec.name}:{path}", path, host.id)(state)
        for subnet, network in zip(subnets, spec.networks, strict=True):
            state, known = _network(state, subnet)
            state, host = changes.attach_network(host.id, known.id, network.interface)(state)
        return state, host

    host = await InventoryRecord(services.store).change(step)
    return await _shown(services, host.id)


async def set_host(services: Services, caller: Caller, spec: HostSetSpec) -> HostInfo:
    """Change how a host is reached, or its maintenance.

    Raises ApiError: INVALID_ARGUMENT, NOT_FOUND, NOT_ALLOWED_IN_CURRENT_STATE.
    """
    del caller
    _require_hosts(services)

    def step(state: State) -> tuple[State, None]:
        host = state.inventory.host(spec.host)
        if host is None:
            fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", spec.host))
        access = _access(host.access or HostAccess(address=""), spec)
        state, _ = changes.set_access(spec.host, access)(state)
        return changes.set_host(spec.host, None, spec.maintenance)(state)

    await InventoryRecord(services.store).change(step, idempotent=True)
    return await _shown(services, spec.host)


async def remove_host(services: Services, caller: Caller, spec: HostRemoveSpec) -> None:
    """Remove a host that has no VM; with ``abandon``, also one that owes deletions.

    Raises ApiError: NOT_FOUND, RESOURCE_IN_USE, NOT_ALLOWED_IN_CURRENT_STATE.
    """
    del caller
    _require_hosts(services)
    await InventoryRecord(services.store).change(
        changes.remove_host(spec.host, abandon=bool(spec.abandon))
    )


def _connected(seen: Inventory, host: Host) -> Host:
    """Return a host with the state of its connection, if that is known."""
    found = seen.host(host.id)
    return replace(host, connection_state=found.connection_state) if found else host


async def _shown(services: Services, host_id: str) -> HostInfo:
    inventory = (await InventoryRecord(services.store).load()).inventory
    host = inventory.host(host_id)
    if host is None:
        fail(ErrorType.NOT_FOUND, message("infrastructure.unknown", host_id))
    return _info(inventory, host)


def _require_hosts(services: Services) -> None:
    kind = str(services.identity.infrastructure.get("kind"))
    if kind != HOSTS:
        fail(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("hosts.unmanaged", kind))


def _access(before: HostAccess, spec: HostAddSpec | HostSetSpec) -> HostAccess:
    """Return how a host is reached from now on. Raises ApiError INVALID_ARGUMENT."""
    address = before.address if spec.address is None else spec.address
    user = (before.user or DEFAULT_USER) if spec.user is None else spec.user
    port = before.port if spec.port is None else spec.port
    key = before.host_key
    if spec.host_key is not None:
        try:
            key = checked(spec.host_key)
        except UnusableHostKey as error:
            _refuse("hosts.key", str(error))
    _require(0 < port < 1 << 16, "hosts.port", port)
    try:
        bare = parse_address(address, DEFAULT_USER).host == address
    except UnusableAddress:
        bare = False
    _require(bare, "hosts.address", address)
    try:
        parse_address("h", user)
    except UnusableAddress:
        _refuse("hosts.user", user)
    return replace(before, address=address, user=user, port=port, host_key=key)


def _subnet(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        _refuse("hosts.subnet", text)


def _network(state: State, subnet: str) -> tuple[State, Network]:
    for network in state.inventory.networks:
        if network.subnet == subnet:
            return state, network
    return changes.add_network(subnet, subnet)(state)


def _info(inventory: Inventory, host: Host) -> HostInfo:
    access = host.access or HostAccess(address="")
    datastores = [one for one in inventory.datastores if one.id in host.datastores]
    networks = [one for one in inventory.networks if one.id in host.networks]
    return HostInfo(
        host=host.id,
        name=host.name,
        address=access.address,
        port=access.port,
        user=access.user,
        fingerprint=fingerprint(access.host_key) if access.host_key else "",
        maintenance=host.maintenance,
        connection_state=host.connection_state,
        datastores=tuple(HostDatastoreInfo(datastore=one.id, path=one.path) for one in datastores),
        networks=tuple(
            HostNetworkInfo(
                network=one.id, interface=host.interfaces.get(one.id, ""), subnet=one.subnet
            )
            for one in networks
        ),
    )


def _require(condition: object, name: str, value: object) -> None:
    if not condition:
        _refuse(name, value)


def _refuse(name: str, value: object) -> NoReturn:
    fail(ErrorType.INVALID_ARGUMENT, message(name, value))
