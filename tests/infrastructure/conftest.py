"""A local infrastructure whose VMs run a small stand-in instead of a real supervisor."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.stand_in_processes import StandInProcesses

from openvcha.api.structures import DatastoreType, FolderType, InventoryNetworkType
from openvcha.infrastructure.interface import NodeRequest, Placement
from openvcha.infrastructure.inventory import (
    ComputeCluster,
    Datacenter,
    Datastore,
    Folder,
    Host,
    Inventory,
    Network,
    ResourcePool,
)
from openvcha.infrastructure.local.infrastructure import HostProbe, LocalInfrastructure
from openvcha.infrastructure.local.power import PowerTimeouts
from openvcha.infrastructure.local.processes import DetachedStarter

# The looptime plugin asks for the event loop around plain tests too. Without this, Python 3.11
# creates one for it that is never closed.
asyncio.set_event_loop(None)

# Its modes are files in its directory: it may die, never become ready, or have a child.
STAND_IN = """
import os, pathlib, subprocess, sys, time
directory = pathlib.Path(sys.argv[-1])
if (directory / "die").exists():
    print("bad configuration: " + (directory / "die").read_text(), file=sys.stderr)
    raise SystemExit(3)
if (directory / "child").exists():
    sleep = "import time; time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", sleep, str(directory)], start_new_session=True)
if not (directory / "silent").exists():
    (directory / "run").mkdir(exist_ok=True)
    (directory / "run" / "supervisor.pid").write_text(str(os.getpid()))
time.sleep(600)
"""


@pytest.fixture
def processes() -> StandInProcesses:
    """Return stand-ins for the processes of VMs."""
    return StandInProcesses()


@pytest.fixture
def starter() -> DetachedStarter:
    """Return a starter of the stand-in program."""
    return DetachedStarter((sys.executable, "-c", STAND_IN))


@pytest.fixture
async def infrastructure(
    tmp_path: Path, processes: StandInProcesses, starter: DetachedStarter
) -> AsyncIterator[LocalInfrastructure]:
    """Stop what a test started, even when it failed."""
    made = await LocalInfrastructure.create(
        tmp_path / "root",
        processes,
        starter,
        timeouts=PowerTimeouts(poll=0.01, power_on=20),
        # What else runs on this machine is not under test.
        machine=HostProbe(answers=lambda _: False),
    )
    yield made
    for vm in (await made.inventory()).vms:
        await processes.kill(Path(vm.directory))


@pytest.fixture
def request_1() -> NodeRequest:
    """Return a request for a VM."""
    return NodeRequest(
        placement=Placement(
            name="vcha-passive",
            folder="group-v3",
            host="host-12",
            resource_pool="resgroup-9",
            datastore="datastore-14",
            ha_network="network-15",
            management_network="network-12",
        ),
        token="deploy-1",
        addresses=("127.83.2.12",),
    )


@pytest.fixture
def inventory() -> Inventory:
    """Return two clusters and a stand-alone host; host-11 to host-13 have the same networks."""
    standard = InventoryNetworkType.STANDARD_PORTGROUP
    distributed = InventoryNetworkType.DISTRIBUTED_PORTGROUP
    near, far = "datacenter-2", "datacenter-3"
    networks = frozenset({"network-12", "network-15", "dvportgroup-16"})
    datastores = frozenset({"datastore-14", "datastore-17"})

    def host(number: int, cluster: str | None, datacenter: str = near) -> Host:
        return Host(
            id=f"host-{number}",
            name=f"h{number}",
            uuid=f"uuid-{number}",
            datacenter=datacenter,
            folder="group-h4",
            cluster=cluster,
            networks=networks,
            datastores=datastores,
        )

    def network(identifier: str, kind: InventoryNetworkType, subnet: str) -> Network:
        return Network(
            id=identifier,
            name=f"net {identifier}",
            type=kind,
            datacenter=near,
            folder="group-n6",
            subnet=subnet,
        )

    def datastore(identifier: str, free: int) -> Datastore:
        return Datastore(
            id=identifier,
            name=f"ds {identifier}",
            type=DatastoreType.VMFS,
            datacenter=near,
            folder="group-s5",
            path=f"/{identifier}",
            capacity=10_000,
            free_space=free,
        )

    return Inventory(
        datacenters=(
            Datacenter(id=near, name="near", folder="group-d1"),
            Datacenter(id=far, name="far", folder="group-d9"),
        ),
        clusters=(
            ComputeCluster(id="domain-c8", name="c8", datacenter=near, folder="group-h4"),
            ComputeCluster(id="domain-c9", name="c9", datacenter=far, folder="group-h5"),
        ),
        hosts=(
            *(host(number, "domain-c8") for number in (11, 12, 13)),
            host(21, "domain-c9", far),
            host(31, None),
        ),
        folders=(
            Folder(id="group-d1", name="Datacenters", type=FolderType.DATACENTER),
            Folder(
                id="group-v3",
                name="vm",
                type=FolderType.VIRTUAL_MACHINE,
                parent="group-d1",
                datacenter=near,
            ),
            Folder(
                id="group-h4",
                name="host",
                type=FolderType.HOST,
                parent="group-d1",
                datacenter=near,
            ),
        ),
        resource_pools=(
            ResourcePool(id="resgroup-9", name="r9", datacenter=near, cluster="domain-c8"),
            ResourcePool(
                id="resgroup-10",
                name="r10",
                datacenter=near,
                cluster="domain-c8",
                parent="resgroup-9",
            ),
            ResourcePool(id="resgroup-30", name="r30", datacenter=near, host="host-31"),
        ),
        networks=(
            network("network-12", standard, "127.83.1.0/24"),
            network("network-15", standard, "127.83.2.0/24"),
            network("dvportgroup-16", distributed, "127.83.2.0/24"),
            network("network-99", standard, "127.83.9.0/24"),
        ),
        datastores=(
            datastore("datastore-14", 5_000),
            datastore("datastore-17", 5_000),
            datastore("datastore-99", 9_000),
        ),
    )
