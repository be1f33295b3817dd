"""The check of a new node: the same for `check`, `redeploy` and `deploy`."""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from msgspec.structs import replace

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import IpSpec, LocalizableMessage, PlacementSpec
from openvcha.cluster.config import NodeConfig, NodeKind, address_text
from openvcha.cluster.observing.observation import Observation
from openvcha.cluster.owed_deletions import read_owed
from openvcha.infrastructure.addresses import (
    Address,
    absent,
    check_ha_address,
    check_in_subnet,
    in_use,
    parse_address,
)
from openvcha.infrastructure.inventory import Inventory, Network
from openvcha.infrastructure.placement import (
    PlacementDefaults,
    defaults_around,
    defaults_from,
    resolve,
)
from openvcha.operations.context import Services
from openvcha.operations.steps.check_settings import check_settings
from openvcha.operations.steps.new_node import NewNode, member_name
from openvcha.operations.steps.public_place import public_place
from openvcha.store.errors import RecordUnreadable
from openvcha.tasks.steps import TemporaryFailure

WITNESS_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class NodeRequest:
    """The request for one node. ``path`` is the path of its fields in the API request.

    Without a placement, an administrator creates the node.
    """

    path: str
    kind: NodeKind
    placement: PlacementSpec | None
    ha_ip: IpSpec | None
    failover_ip: IpSpec | None
    token: str
    replaces: NodeConfig | None = None
    taken: dict[str, str] = field(default_factory=dict)
    """Addresses of other nodes in the same request, by the nodes' names."""
    avoid_hosts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CheckResult:
    """All findings; ``node`` is set if and only if there are no errors.

    ``silence``, one of the errors, is why the active's settings could not be read.
    """

    node: NewNode | None
    errors: tuple[LocalizableMessage, ...]
    warnings: tuple[LocalizableMessage, ...]
    silence: LocalizableMessage | None = None


def refuse(errors: tuple[LocalizableMessage, ...], silence: LocalizableMessage | None) -> NoReturn:
    """Refuse what a step has checked.

    Raises TemporaryFailure if the only error is that settings could not be read, else ApiError.
    """
    if silence is not None and errors == (silence,):
        raise TemporaryFailure(silence)
    raise ApiError(ErrorType.INVALID_ARGUMENT, message("check.refused"), *errors)


async def require_one_datastore(services: Services, seen: Observation) -> None:
    """Raise ApiError INVALID_ELEMENT_CONFIGURATION if the active uses several datastores."""
    if places := await services.external_data():
        name = seen.active.config.name if seen.active else services.identity.name
        said = message("active.elsewhere", name, ", ".join(map(str, places)))
        raise ApiError(ErrorType.INVALID_ELEMENT_CONFIGURATION, said)


async def check_addresses(
    services: Services, seen: Observation, wish: NodeRequest
) -> tuple[LocalizableMessage, ...]:
    """Return the findings for the addresses of a manually created node."""
    inventory = await services.infrastructure.inventory()
    return tuple(await _Addresses(services, seen, inventory, wish).examine(None))


async def check(services: Services, seen: Observation, wish: NodeRequest) -> CheckResult:
    """Check placement, addresses and base backup of a new node; change nothing.

    Raises ValueError for a request without a placement.
    """
    if wish.placement is None:
        raise ValueError("there is no placement to check")
    inventory, need, settings = await asyncio.gather(
        services.infrastructure.inventory(),
        _need(services, wish.kind),
        check_settings(services, seen, wish.kind),
    )
    defaults = _defaults(inventory, seen, wish)
    found = resolve(wish.placement, inventory, defaults, need, f"{wish.path}placement")
    addresses = _Addresses(services, seen, inventory, wish)
    host = found.placement.host if found.placement else None
    names = await _taken_names(services, seen, inventory, wish)
    errors = [*names, *found.errors, *await addresses.examine(host), *settings.errors]
    warnings = (*found.warnings, *settings.warnings)
    interface = ""
    if found.placement is not None and addresses.failover_ip is not None and not errors:
        interface, unreached = await public_place(
            services, inventory, found.placement, addresses.failover_ip, f"{wish.path}placement"
        )
        errors += unreached
    if errors or found.placement is None:
        return CheckResult(None, tuple(errors), warnings, settings.silence)
    node = NewNode(
        kind=wish.kind,
        member=member_name(wish.placement.name, wish.token),
        token=wish.token,
        placement=found.placement,
        ha_ip=addresses.ha_ip,
        failover_ip=addresses.failover_ip,
        public_interface=interface,
    )
    return CheckResult(node, (), warnings)


async def _taken_names(
    services: Services, seen: Observation, inventory: Inventory, wish: NodeRequest
) -> list[LocalizableMessage]:
    """Return a finding for a name of a node that is in no inventory (made by hand, or owed).

    A node that is replaced, and gone, leaves its name to its successor.
    """
    name = wish.placement.name if wish.placement else ""
    if inventory.vm_by_name(name) is not None:
        return []  # the placement has this finding
    staying = [node for node in seen.config.nodes if node != wish.replaces]
    owners = {node.name.casefold(): node.member for node in staying}
    with contextlib.suppress(RecordUnreadable):
        owners |= {owed.name.casefold(): owed.vm for owed in await read_owed(services.store)}
    owner = owners.get(name.casefold())
    said = message("placement.name.taken", f"{wish.path}placement.name", name, owner)
    return [said] if owner else []


async def _need(services: Services, kind: NodeKind) -> int:
    return WITNESS_BYTES if kind is NodeKind.WITNESS else await services.data_bytes()


def _defaults(inventory: Inventory, seen: Observation, wish: NodeRequest) -> PlacementDefaults:
    """Return the defaults, taken from the active; a replaced node frees its host and datastore."""
    stay = [node.config.vm for node in seen.nodes if node.config != wish.replaces]
    active_vm = inventory.vm(seen.active.config.vm if seen.active else None)
    others = tuple(vm for vm in inventory.vms if vm.id in stay and vm != active_vm)
    if active_vm is not None:
        found = defaults_from(inventory, active_vm, others)
    else:
        ha = seen.active.config.ha_address if seen.active else ""
        found = defaults_around(inventory, ha, address_text(seen.config.management))
    used = found.used_hosts | {vm.host for vm in others} | wish.avoid_hosts
    return replace(found, used_hosts=used, token=wish.token)


class _Addresses:
    """The addresses of a requested node, completed from the configuration."""

    def __init__(
        self, services: Services, seen: Observation, inventory: Inventory, wish: NodeRequest
    ) -> None:
        self._services = services
        self._seen = seen
        self._inventory = inventory
        self._defaults = _defaults(inventory, seen, wish)
        self._wish = wish
        stored = wish.replaces.ha_ip if wish.replaces else None
        config = seen.config
        self.ha_ip: IpSpec = wish.ha_ip or stored or config.management
        is_data = wish.kind is NodeKind.DATA
        self.failover_ip = (wish.failover_ip or config.management) if is_data else None

    async def examine(self, host: str | None) -> list[LocalizableMessage]:
        """Return all findings for both addresses; ``host`` is to have the node, if known."""
        return [*await self._ha(host), *await self._failover()]

    async def _ha(self, host: str | None) -> list[LocalizableMessage]:
        path = f"{self._wish.path}ha_ip"
        address, findings = parse_address(self.ha_ip, path)
        if address is None:
            return findings
        if said := self._services.infrastructure.unsupported_family(address.family):
            return [said]
        management, _ = parse_address(self._seen.config.management, "management")
        if management is None:
            return findings
        place = self._wish.placement
        network = self._network(place.ha_network if place else None, self._defaults.ha_network)
        found = check_ha_address(
            address,
            path,
            management=management,
            ha_subnet=network.subnet if network else None,
            others=self._others(),
        )
        if not found and host and await self._lacking(host, address):
            known = self._inventory.host(host)
            return [absent(address.address, path, known.name if known else host)]
        return found or await self._used(address, path, network, standing=True)

    async def _lacking(self, host: str, address: Address) -> bool:
        return await self._services.infrastructure.lacks_address(host, address.address)

    async def _failover(self) -> list[LocalizableMessage]:
        if self._wish.failover_ip is None or self._wish.kind is not NodeKind.DATA:
            return []
        path = f"{self._wish.path}failover_ip"
        address, findings = parse_address(self._wish.failover_ip, path)
        if address is None:
            return findings
        if said := self._services.infrastructure.unsupported_family(address.family):
            return [said]
        place = self._wish.placement
        network = self._network(
            place.management_network if place else None, self._defaults.management_network
        )
        found = check_in_subnet(address, path, network.subnet) if network else []
        public, _ = parse_address(self._seen.config.management, "management")
        if found or (public is not None and public.address == address.address):
            return found
        return await self._used(address, path, network)

    def _network(self, wished: str | None, default: str | None) -> Network | None:
        return self._inventory.network(wished or default)

    def _others(self) -> dict[str, str]:
        nodes = self._seen.config.nodes
        known = {n.name: n.ha_address for n in nodes if n != self._wish.replaces}
        return {**known, **self._wish.taken}

    async def _used(
        self, address: Address, path: str, network: Network | None, *, standing: bool = False
    ) -> list[LocalizableMessage]:
        infrastructure = self._services.infrastructure
        ignoring: Iterable[str] = [self._wish.replaces.vm] if self._wish.replaces else []
        where = network.id if network else None
        if not await infrastructure.address_in_use(
            address.address, where, ignoring, standing=standing
        ):
            return []
        owner = self._inventory.vm_by_address(address.address, ignoring)
        return [in_use(address.address, path, owner.name if owner else None)]
