"""The first node of a lab, created without the API, which does not exist yet."""

import asyncio
import socket
from pathlib import Path

from openvcha.infrastructure.interface import Infrastructure, NodeRequest, Placement
from openvcha.infrastructure.inventory import Vm
from openvcha.lab.state import Lab, LabState
from openvcha.node.first_node.files import first_files, new_member, new_secrets
from openvcha.node.identity import IDENTITY, Identity
from openvcha.node.layout import SERVICE_CA_CERTIFICATE
from openvcha.node.postgres.own_names import APPLICATION_USER
from openvcha.system.files.durable import write_durably

TOKEN = "lab-first-node"  # noqa: S105 - names a request, opens nothing
NAME = "vcha-1"


def first_node_made(lab: Lab) -> bool:
    """Return whether the first node was ever created; it may have been replaced since."""
    return lab.ca.exists()


async def make_first_node(lab: Lab, infrastructure: Infrastructure) -> Vm:
    """Create the first node's VM with its identity, powered off; continue after a crash.

    It gets the lab's settings; later nodes inherit them.
    """
    state = lab.state()
    begun = await infrastructure.begin(await _request(infrastructure, state))
    vm = (await infrastructure.inventory()).vm(begun.vm)
    if vm is None:
        raise LookupError(f"the inventory has no VM {begun.vm}, which was just created")
    directory = Path(vm.directory)
    if not (directory / IDENTITY).exists():
        await infrastructure.write_files(vm.id, await asyncio.to_thread(_files, lab, state, vm))
    certificate = (directory / SERVICE_CA_CERTIFICATE).read_bytes()
    await asyncio.to_thread(write_durably, lab.ca, certificate, 0o644)
    return vm


async def _request(infrastructure: Infrastructure, state: LabState) -> NodeRequest:
    inventory = await infrastructure.inventory()
    folder = next(f for f in inventory.folders if f.type == "VIRTUAL_MACHINE")
    host = inventory.hosts[0]
    ha = next(n for n in inventory.networks if n.subnet == state.ha_subnet)
    management = next(n for n in inventory.networks if n.subnet == state.management_subnet)
    return NodeRequest(
        placement=Placement(
            name=NAME,
            folder=folder.id,
            host=host.id,
            resource_pool=inventory.resource_pools[0].id,
            datastore=next(d.id for d in inventory.datastores if d.id in host.datastores),
            ha_network=ha.id,
            management_network=management.id,
        ),
        token=TOKEN,
        addresses=(state.ha_address(1),),
    )


def _files(lab: Lab, state: LabState, vm: Vm) -> dict[str, bytes]:
    wanted = Identity(
        cluster_id=state.cluster_id,
        cluster_name=state.name,
        member=new_member(NAME),
        kind="data",
        vm=vm.id,
        name=NAME,
        ha_address=state.ha_address(1),
        public_address=state.public_address,
        etcd_initial_cluster={},
        infrastructure={"kind": "local", "root": str(lab.infrastructure)},
        store=state.settings.store,
        timers=state.settings.timers,
        api=state.settings.api,
    )
    own = new_secrets(lab.password(APPLICATION_USER))
    return first_files(wanted, own, socket.gethostname())
