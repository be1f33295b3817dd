"""The request for each operation: its arguments as plain JSON, by parameter name."""

from collections.abc import Callable
from typing import Any

from tests.support.answers.beginnings import (
    ADDRESSES,
    deploy_spec,
    healthy,
    on_hosts,
    passive_lost,
    place,
    prepared,
    single,
    witness_lost,
)
from tests.support.answers.stage import Begin, ServedCluster
from tests.support.edge import ADMINISTRATOR, PASSWORD

from openvcha.api.operations import Operation
from openvcha.node.security.certificates import signing_request
from openvcha.operations.steps.manual_join_steps import JOINING

VCHA = "com.vmware.vcenter.vcha"
CLUSTER = f"{VCHA}.cluster"
TASKS = "com.vmware.cis.tasks"
SESSION = "com.vmware.cis.session"
UNKNOWN_TASK = "00000000-0000-4000-8000-000000000000:com.vmware.vcenter.vcha"

HOSTS = "org.openvcha.hosts"

Arguments = dict[str, Any]
Made = Callable[[ServedCluster, Any], Arguments]
"""Made of the stage and of what a condition has given, if there is one."""

HOST_SPEC: Arguments = {
    "name": "h2",
    "address": "198.18.1.12",
    "host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDR/wZXZckMjI0Jcd3Weuww1LJbSQCl8nzI2ZE/ksk7T",
    "datastores": ["/var/lib/openvcha/nodes"],
    "networks": [{"interface": "eth1", "subnet": "198.18.2.0/24"}],
}


def no_arguments(stage: ServedCluster, held: Any) -> Arguments:
    """Return no arguments."""
    del stage, held
    return {}


def of_task(stage: ServedCluster, held: Any) -> Arguments:
    """Return the id of the task that the condition holds, or an unknown one."""
    del stage
    return {"task": held or UNKNOWN_TASK}


def tasks_of(stage: ServedCluster, held: Any) -> Arguments:
    """Return a filter for the tasks of the service that the condition holds, or of the cluster."""
    del stage
    return {"filter_spec": {"services": [held or CLUSTER]}}


def join_spec(stage: ServedCluster, held: Any) -> Arguments:
    """Return the request of a manual passive, with the token that the condition holds."""
    del stage
    request = signing_request(ADDRESSES["PASSIVE"]).certificate.decode()
    spec = {
        "token": held or "no token",
        "role": "PASSIVE",
        "name": "by-hand",
        "ha_address": ADDRESSES["PASSIVE"],
        "certificate_request": request,
    }
    return {"spec": spec}


def of_host(stage: ServedCluster, held: Any) -> Arguments:
    """Return the id of the host that the condition holds, or an unknown one."""
    del stage
    return {"spec": {"host": held or "host-9"}}


def always(arguments: Arguments) -> Made:
    """Return a function that returns these arguments."""
    return lambda _stage, _held: arguments


#: By operation id: arguments that are accepted in the state given beside them.
ASKED: dict[str, tuple[Begin, Made]] = {
    f"{TASKS}.get": (single, of_task),
    f"{TASKS}.list": (single, tasks_of),
    f"{TASKS}.cancel": (single, of_task),
    f"{CLUSTER}.get": (healthy, no_arguments),
    f"{CLUSTER}.deploy": (single, always({"spec": deploy_spec()})),
    f"{CLUSTER}.failover": (healthy, always({"planned": True})),
    f"{CLUSTER}.undeploy": (healthy, always({"spec": {}})),
    f"{CLUSTER}.active.get": (healthy, no_arguments),
    f"{CLUSTER}.mode.set": (healthy, always({"mode": "MAINTENANCE"})),
    f"{CLUSTER}.passive.check": (passive_lost, always({"spec": {"placement": place()}})),
    f"{CLUSTER}.passive.redeploy": (passive_lost, always({"spec": {"placement": place()}})),
    f"{CLUSTER}.witness.check": (witness_lost, always({"spec": {"placement": place()}})),
    f"{CLUSTER}.witness.redeploy": (witness_lost, always({"spec": {"placement": place()}})),
    f"{JOINING}.issue": (prepared, always({"spec": {"role": "PASSIVE"}})),
    f"{JOINING}.list": (prepared, no_arguments),
    f"{JOINING}.revoke": (prepared, always({"spec": {"role": "PASSIVE"}})),
    f"{JOINING}.join": (prepared, join_spec),
    f"{HOSTS}.list": (on_hosts, no_arguments),
    f"{HOSTS}.add": (on_hosts, always({"spec": HOST_SPEC})),
    f"{HOSTS}.set": (on_hosts, of_host),
    f"{HOSTS}.remove": (on_hosts, of_host),
}


def begin_and_arguments(operation: Operation) -> tuple[Begin, Made]:
    """Return an operation's condition, and what makes its arguments."""
    return ASKED.get(operation.id, (healthy, no_arguments))


def with_peer(operation: Operation, **where: Any) -> Made:
    """Return the same request with a ``vc_spec``: the stage itself, but with the values given."""
    arguments = begin_and_arguments(operation)[1]

    def made(stage: ServedCluster, held: Any) -> Arguments:
        location = {
            "hostname": "127.0.0.1",
            "port": stage.port,
            "username": ADMINISTRATOR,
            "password": PASSWORD,
            **where,
            **(held or {}),
        }
        peer = {"vc_spec": {"active_location": location}}
        given = arguments(stage, None)
        return {"spec": {**given["spec"], **peer}} if "spec" in given else peer

    return made
