"""Conditions that hold during a call.

Each yields, while it holds, the values that the call's arguments are made of.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from msgspec.structs import replace
from tests.support.answers.asking import CLUSTER, HOST_SPEC, Arguments
from tests.support.answers.beginnings import ask_token, single
from tests.support.answers.stage import ServedCluster
from tests.support.edge import ADMINISTRATOR
from tests.support.simulated.world.node import SimulatedNode

from openvcha.api.messages import message
from openvcha.infrastructure import changes
from openvcha.infrastructure.interface import Placement, VmRequest
from openvcha.infrastructure.inventory import HostAccess
from openvcha.infrastructure.queries import LISTS
from openvcha.infrastructure.records import InventoryRecord
from openvcha.infrastructure.skeleton import RESOURCE_POOL, VM_FOLDER
from openvcha.infrastructure.state import MAX_HOSTS
from openvcha.operations.steps.manual_join_steps import JOINING, JoinArguments
from openvcha.store import keys
from openvcha.store.records import encode
from openvcha.system.thumbprints import thumbprint_sha256
from openvcha.tasks.journal import MAX_MATCHES

Holding = Callable[[ServedCluster], AbstractContextManager[Any]]


@contextlib.contextmanager
def nothing(stage: ServedCluster) -> Iterator[None]:
    """Change nothing: the initial state."""
    del stage
    yield


def fault(name: str) -> Holding:
    """Inject a fault into the simulated world."""

    @contextlib.contextmanager
    def holds(stage: ServedCluster) -> Iterator[None]:
        stage.scene.world.faults.add(name)
        try:
            yield
        finally:
            stage.scene.world.faults.discard(name)

    return holds


def unreadable(key: str) -> Holding:
    """Make a stored value unreadable for this version."""
    return fault(f"unreadable {key}")


@contextlib.contextmanager
def busy(
    stage: ServedCluster, service: str = CLUSTER, name: str = "failover$task", **more: Any
) -> Iterator[str]:
    """Start an operation that no process carries out yet, and yield its task."""
    task = stage.run(
        stage.process.services.journal.create(
            service=service,
            operation=name,
            description=message("cluster.failover"),
            user=ADMINISTRATOR,
            **more,
        )
    )
    try:
        yield task.id
    finally:
        stage.run(stage.store.delete(keys.OPERATION))
        stage.run(stage.store.delete(keys.task(task.id)))


@contextlib.contextmanager
def busy_without_space(stage: ServedCluster) -> Iterator[str]:
    """Keep a task running while the store has no room for the request to cancel it."""
    with busy(stage) as task, fault("no space")(stage):
        yield task


@contextlib.contextmanager
def unreadable_task(stage: ServedCluster) -> Iterator[str]:
    """Yield the id of a running task whose record is unreadable."""
    with busy(stage) as task, unreadable(keys.task(task))(stage):
        yield task


@contextlib.contextmanager
def ended_task(stage: ServedCluster) -> Iterator[str]:
    """Let a task end at once because no process knows how to carry it out."""
    with busy(stage, name="unheard-of$task") as task:
        stage.scene.task = task
        stage.run(stage.scene.carry())
        yield task


@contextlib.contextmanager
def many_tasks(stage: ServedCluster) -> Iterator[str]:
    """Store more tasks of one service than a list may return."""
    with busy(stage) as task:
        record = stage.run(stage.process.services.journal.read(task))
        more = [
            replace(record, id=f"{number}", service="many") for number in range(MAX_MATCHES + 1)
        ]
        for each in more:
            stage.run(stage.store.put(keys.task(each.id), encode(each)))
        yield "many"
        for each in more:
            stage.run(stage.store.delete(keys.task(each.id)))


@contextlib.contextmanager
def a_host(stage: ServedCluster) -> Iterator[str]:
    """Add a host to the inventory in the store, and yield its id."""
    record = InventoryRecord(stage.store)
    access = HostAccess(address="198.18.1.13", host_key=HOST_SPEC["host_key"])
    host = stage.run(record.change(changes.add_host("h3", "", access)))
    stage.run(record.change(changes.add_datastore("h3:/srv", "/srv", host.id)))
    yield host.id
    stage.run(stage.store.delete(keys.INVENTORY))


@contextlib.contextmanager
def a_host_with_a_vm(stage: ServedCluster) -> Iterator[str]:
    """Add a host that has a VM, and yield its id."""
    with a_host(stage) as host:
        record = InventoryRecord(stage.store)
        network = stage.run(record.change(changes.add_network("ha", "198.18.2.0/24")))
        place = Placement(
            name="vcha-9",
            folder=VM_FOLDER,
            host=host,
            resource_pool=RESOURCE_POOL,
            datastore=stage.run(record.load()).inventory.datastores[0].id,
            ha_network=network.id,
            management_network=network.id,
        )
        request = VmRequest(placement=place, token="token")
        stage.run(record.change(lambda state: changes.add_vm(state, request, "uuid")))
        yield host


@contextlib.contextmanager
def all_hosts(stage: ServedCluster) -> Iterator[None]:
    """Add as many hosts as the inventory can have."""
    record = InventoryRecord(stage.store)
    for number in range(MAX_HOSTS):
        access = HostAccess(address=f"h{number}")
        stage.run(record.change(changes.add_host(f"n{number}", "", access)))
    yield
    stage.run(stage.store.delete(keys.INVENTORY))


@contextlib.contextmanager
def running_task(stage: ServedCluster) -> Iterator[str]:
    """Yield the task that was running when the stage began."""
    yield stage.scene.task


@contextlib.contextmanager
def join_runs(stage: ServedCluster) -> Iterator[str]:
    """Let a node join as the passive before the call."""
    wanted = JoinArguments(role="passive", name="somebody", digest="-")
    with busy(stage, service=JOINING, name="join", arguments=wanted) as task:
        yield task


@contextlib.contextmanager
def token(stage: ServedCluster) -> Iterator[str]:
    """Yield a join token for the passive, requested as a person does."""
    yield stage.run(ask_token(stage.scene))


@contextlib.contextmanager
def token_while_busy(stage: ServedCluster) -> Iterator[str]:
    """Yield a join token while a task is running."""
    with token(stage) as text, busy(stage):
        yield text


@contextlib.contextmanager
def early_token(stage: ServedCluster) -> Iterator[str]:
    """Yield the join token of a deployment that was undeployed."""
    yield stage.scene.token


def many(kind: str, most: int) -> Holding:
    """Let the inventory hold more objects of a kind than its list may return."""

    @contextlib.contextmanager
    def holds(stage: ServedCluster) -> Iterator[None]:
        world, attribute = stage.scene.world, _ATTRIBUTES[kind]
        before, machines = world.state, dict(world.machines)
        first = getattr(before.inventory, attribute)[0]
        found = tuple(replace(first, id=f"{first.id}-{number}") for number in range(most + 1))
        world.machines.update({each.id: SimulatedNode() for each in found if kind == "VM"})
        inventory = replace(before.inventory, **{attribute: found})
        world.state = replace(before, inventory=inventory)
        try:
            yield
        finally:
            world.state, world.machines = before, machines

    return holds


_ATTRIBUTES = {kind: f"{kind}s" for kind in LISTS} | {"VM": "vms"}


@contextlib.contextmanager
def nobody_listens(stage: ServedCluster) -> Iterator[Arguments]:
    """Yield a port that was free a moment ago."""
    del stage
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    yield {"port": port}


@contextlib.contextmanager
def stranger(stage: ServedCluster) -> Iterator[Arguments]:
    """Yield another vCenter, with the same users and its own certificate, without a cluster."""
    other = stage.others.stranger(single)
    thumbprint = thumbprint_sha256(other.tls.certificate.read_bytes())
    yield {"port": other.port, "ssl_thumbprint": thumbprint}
