"""What each operation returns on success, and the state afterwards."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.answers.asking import (
    CLUSTER,
    HOSTS,
    SESSION,
    TASKS,
    VCHA,
    Arguments,
    Made,
    begin_and_arguments,
    join_spec,
)
from tests.support.answers.beginnings import ADDRESSES, single
from tests.support.answers.clients import API, Identification
from tests.support.answers.conditions import Holding, a_host, busy, nothing, token
from tests.support.answers.stage import Begin, ServedCluster
from tests.support.edge import ADMINISTRATOR
from tests.support.simulated.scenes import NEW

from openvcha.api.messages import message
from openvcha.api.operations import by_id
from openvcha.api.structures import ConfigState, EventSeverity
from openvcha.cluster.config import ClusterConfig
from openvcha.events.log import EventLog
from openvcha.events.state_diff import EventDraft
from openvcha.infrastructure.inventory import Host
from openvcha.infrastructure.records import InventoryRecord
from openvcha.node.identity import IDENTITY
from openvcha.operations.steps.manual_join_steps import JOINING
from openvcha.store import keys


def anything(stage: ServedCluster, held: Any) -> bool:
    """Check nothing."""
    del stage, held
    return True


@dataclass(frozen=True)
class Success:
    """``shows`` checks the result, which has the same names as our structure and the SDK's.

    ``then`` checks the cluster afterwards; for a task, once it has ended.
    """

    shows: Callable[[Any, Any], bool]
    then: Callable[[ServedCluster, Any], bool] = anything
    holds: Holding = nothing
    begin: Begin | None = None
    arguments: Made | None = None
    works: bool = False
    """Tasks are carried out meanwhile; they are for the operations that are tasks."""
    logs_in: bool = False
    """With name and password, not by a session."""
    own_session: bool = False
    """By a session that nobody else uses."""

    def beginning(self, name: str) -> Begin:
        """Return the condition in which the operation succeeds."""
        return self.begin or begin_and_arguments(by_id(name))[0]

    def given(self, name: str, stage: ServedCluster, held: Any) -> Arguments:
        """Return the arguments with which it succeeds."""
        return (self.arguments or begin_and_arguments(by_id(name))[1])(stage, held)


# --- what may exist before the call


@contextlib.contextmanager
def something_told(stage: ServedCluster) -> Iterator[None]:
    """Write an event before the call."""
    told = EventDraft(type="test", severity=EventSeverity.INFO, message=message("event.in.sync"))
    stage.run(EventLog(stage.store).add(told))
    yield


@contextlib.contextmanager
def a_login(stage: ServedCluster) -> Iterator[None]:
    """Log in before the call."""
    API.call(stage, by_id(f"{SESSION}.create"), {}, Identification(user=ADMINISTRATOR))
    yield


# --- what must hold afterwards


def config(stage: ServedCluster) -> ClusterConfig:
    """Return the cluster's configuration."""
    return stage.run(stage.scene.world.config())


def names(stage: ServedCluster) -> list[str]:
    """Return the names of the configured nodes."""
    return [node.name for node in config(stage).nodes]


def hosts(stage: ServedCluster) -> tuple[Host, ...]:
    """Return the hosts in the inventory in the store."""
    return stage.run(InventoryRecord(stage.store).load()).inventory.hosts


def is_a_task(result: Any, held: Any) -> bool:
    """Return whether a result is a task's id."""
    del held
    return bool(getattr(result, "get_task_id", lambda: result)())


def named(attribute: str, expected: Any) -> Callable[[Any, Any], bool]:
    """Check an attribute of the result, given as ``a.b.c``."""

    def shows(result: Any, held: Any) -> bool:
        del held
        for name in attribute.split("."):
            result = getattr(result, name)
        return bool(result == expected)

    return shows


def lists(attribute: str, identifier: str) -> Callable[[Any, Any], bool]:
    """Return a check that a result has an item whose attribute is the identifier."""
    return lambda found, _: identifier in [getattr(each, attribute) for each in found]


def task(then: Callable[[ServedCluster], bool]) -> Success:
    """Return the success of an operation that starts a task, with a check of its effect."""
    return Success(is_a_task, lambda stage, _: then(stage), works=True)


def clean(result: Any, held: Any) -> bool:
    """Check that the result of a check has no findings."""
    del held
    return (list(result.errors), list(result.warnings)) == ([], [])


def sessions(stage: ServedCluster) -> int:
    """Return the number of sessions."""
    return len(stage.run(stage.store.prefix(keys.SESSIONS)))


def asked_to_stop(stage: ServedCluster, held: str) -> bool:
    """Return whether the task has a cancel request."""
    return stage.run(stage.scene.journal.read(held)).cancel_requested


_OF_TASK = lambda _stage, held: {"task": held}  # noqa: E731 - as the others of the table

SUCCESSES: dict[str, Success] = {
    f"{SESSION}.create": Success(
        lambda token_, _: len(getattr(token_, "reveal", lambda: token_)()) == 64, logs_in=True
    ),
    f"{SESSION}.get": Success(named("user", ADMINISTRATOR)),
    f"{SESSION}.delete": Success(
        lambda result, _: result is None,
        lambda stage, _: sessions(stage) == len(stage.tokens),
        begin=single,
        works=True,
        own_session=True,
    ),
    f"{TASKS}.get": Success(named("status", "PENDING"), holds=busy),
    f"{TASKS}.list": Success(
        lambda found, held: list(found) == [held],
        holds=busy,
        arguments=lambda _stage, _held: {"filter_spec": {"services": [CLUSTER]}},
    ),
    f"{TASKS}.cancel": Success(lambda result, _: result is None, asked_to_stop, busy),
    f"{CLUSTER}.get": Success(named("health_state", "HEALTHY")),
    f"{CLUSTER}.deploy": task(
        lambda stage: config(stage).state is ConfigState.CONFIGURED and len(names(stage)) == 3
    ),
    f"{CLUSTER}.failover": task(lambda stage: stage.scene.world.leads == "vcha-2-old"),
    f"{CLUSTER}.undeploy": task(lambda stage: names(stage) == ["vcha-1"]),
    f"{VCHA}.operations.get": Success(lambda info, _: f"{CLUSTER}.deploy" in info.disabled),
    f"{CLUSTER}.active.get": Success(named("placement.vm_name", "vcha-1")),
    f"{CLUSTER}.deployment_type.get": Success(named("deployment_type", "AUTO")),
    f"{CLUSTER}.mode.get": Success(named("mode", "ENABLED")),
    f"{CLUSTER}.mode.set": task(lambda stage: config(stage).mode == "MAINTENANCE"),
    f"{CLUSTER}.passive.check": Success(clean),
    f"{CLUSTER}.passive.redeploy": task(lambda stage: NEW in names(stage)),
    f"{CLUSTER}.witness.check": Success(clean),
    f"{CLUSTER}.witness.redeploy": task(lambda stage: NEW in names(stage)),
    "com.vmware.vcenter.datacenter.list": Success(lists("datacenter", "datacenter-2")),
    "com.vmware.vcenter.cluster.list": Success(lists("cluster", "domain-c8")),
    "com.vmware.vcenter.folder.list": Success(lists("folder", "group-v3")),
    "com.vmware.vcenter.host.list": Success(lists("host", "host-11")),
    "com.vmware.vcenter.resource_pool.list": Success(lists("resource_pool", "resgroup-9")),
    "com.vmware.vcenter.network.list": Success(lists("network", "network-12")),
    "com.vmware.vcenter.datastore.list": Success(lists("datastore", "datastore-14")),
    "com.vmware.vcenter.VM.list": Success(lists("name", "vcha-1")),
    "org.openvcha.events.list": Success(lists("type", "test"), holds=something_told),
    "org.openvcha.audit.list": Success(lists("operation", f"{SESSION}.create"), holds=a_login),
    f"{JOINING}.issue": Success(named("ha_address", ADDRESSES["PASSIVE"])),
    f"{JOINING}.list": Success(lists("issuer", "root"), holds=token),
    f"{JOINING}.revoke": Success(lambda result, _: result is None, holds=token),
    f"{JOINING}.join": Success(
        lambda info, _: IDENTITY in info.files, holds=token, arguments=join_spec, works=True
    ),
    f"{HOSTS}.list": Success(lists("name", "h3"), holds=a_host),
    f"{HOSTS}.add": Success(
        named("fingerprint", "SHA256:hhUxqSJUmzHG3168cvuBTf8olwR0mu5NyH0GldaqFvI"),
        lambda stage, _: [host.name for host in hosts(stage)] == ["h2"],
        works=True,
    ),
    f"{HOSTS}.set": Success(
        named("maintenance", True),
        lambda stage, _: [host.maintenance for host in hosts(stage)] == [True],
        holds=a_host,
        arguments=lambda _stage, held: {"spec": {"host": held, "maintenance": True}},
    ),
    f"{HOSTS}.remove": Success(
        lambda result, _: result is None, lambda stage, _: hosts(stage) == (), holds=a_host
    ),
}
