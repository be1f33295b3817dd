"""The current roles of the nodes, from the cluster's own records."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from openvcha.client.errors import CommandError
from openvcha.cluster import patroni_client
from openvcha.cluster.config import ClusterConfig, read_config
from openvcha.cluster.patroni_client import PatroniClient, PatroniUnreachable
from openvcha.infrastructure.inventory import Inventory, Vm
from openvcha.lab.access import data_nodes, is_on, load_vm_identity
from openvcha.lab.folders import shell_command
from openvcha.lab.state import Lab
from openvcha.node.identity import Identity, load_secrets
from openvcha.node.layout import Layout
from openvcha.node.patroni.config import REST_USER
from openvcha.node.security.tls import NodeTls
from openvcha.node.store_access import open_store
from openvcha.store.errors import StoreError
from openvcha.store.interface import Store

ASK_SECONDS = 3.0
ACTIVE, PASSIVE, WITNESS = "active", "passive", "witness"
ROLES = (ACTIVE, PASSIVE, WITNESS)


@dataclass(frozen=True)
class Roles:
    """The VM id of each known role; None for a configured node whose VM is gone."""

    vms: dict[str, str | None]

    def of(self, vm: Vm) -> str | None:
        """Return the role of a VM, if known."""
        return next((role for role, known in self.vms.items() if known == vm.id), None)


async def find_roles(inventory: Inventory) -> Roles:
    """Return the roles: from the store, otherwise from Patroni, otherwise from the nodes' kinds."""
    nodes = data_nodes(inventory)
    first = next((vm for vm, _ in nodes if is_on(vm)), None)
    if first and (found := await _by_records(Path(first.directory), inventory)):
        return found
    return _by_kind(inventory, await _primary(nodes))


def select(lab: Lab, inventory: Inventory, known: Roles, node: str) -> Vm:
    """Return the VM with a role, name or id. Raises CommandError."""
    if node not in ROLES:
        if vm := inventory.vm(node) or inventory.vm_by_name(node):
            return vm
        names = ", ".join((*ROLES, *(vm.name for vm in inventory.vms)))
        raise CommandError(f"there is no node {node!r}; there are: {names}")
    if node not in known.vms:
        raise CommandError(f"cannot tell which node is the {node} now; use the node's name")
    vm = inventory.vm(known.vms[node])
    if vm is None:
        show_status = shell_command(lab, "lab status")
        raise CommandError(f"there is no {node}: it was destroyed ({show_status})")
    return vm


async def _by_records(directory: Path, inventory: Inventory) -> Roles | None:
    """Return the roles in the store; None if it does not respond."""
    try:
        async with asyncio.timeout(ASK_SECONDS), open_store(directory) as store:
            return await _read(store, inventory)
    except (StoreError, LookupError, TimeoutError):
        return None


async def _read(store: Store, inventory: Inventory) -> Roles | None:
    config = await read_config(store)
    leader = await patroni_client.leader(store)
    if leader is None or config.node(leader) is None:
        return None
    return Roles(_assigned(config, leader, inventory))


def _assigned(config: ClusterConfig, leader: str, inventory: Inventory) -> dict[str, str | None]:
    """Return the VM of each configured node, by role; None for a VM that is gone."""
    there = {vm.id for vm in inventory.vms}
    named = {
        ACTIVE: config.node(leader),
        PASSIVE: config.peer_of(leader),
        WITNESS: config.witness,
    }
    return {role: node.vm if node.vm in there else None for role, node in named.items() if node}


async def _primary(nodes: list[tuple[Vm, Identity]]) -> str | None:
    """Return the VM whose Patroni reports the primary; a single data node is always the primary."""
    for vm, identity in nodes:
        if is_on(vm) and await _leads(Path(vm.directory), identity):
            return vm.id
    return nodes[0][0].id if len(nodes) == 1 else None


async def _leads(directory: Path, identity: Identity) -> bool:
    tls = NodeTls(Layout(directory))
    async with PatroniClient(
        tls, REST_USER, lambda: load_secrets(directory).patroni_rest, identity.ports.patroni
    ) as client:
        try:
            return (await client.node(identity.ha_address)).primary
        except PatroniUnreachable:
            return False


def _by_kind(inventory: Inventory, primary: str | None) -> Roles:
    """Return the roles by identity; without a primary, those of the data nodes are unknown."""
    found: dict[str, str | None] = {}
    for vm in inventory.vms:
        identity = load_vm_identity(vm)
        if identity is None:
            continue
        if not identity.holds_data:
            found[WITNESS] = vm.id
        elif primary is not None:
            found[ACTIVE if vm.id == primary else PASSIVE] = vm.id
    return Roles(found)
