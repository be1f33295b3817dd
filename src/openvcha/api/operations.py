"""The table of operations: one row for each operation that can be called.

Each declared error has a real cause: `tests/api_server/answers` provokes it over every protocol.
Where ERROR ("any other error") is declared, a refusal of the store becomes ERROR, too.
"""

from functools import cache
from typing import Any

from openvcha.api.errors import ErrorType
from openvcha.api.extensions import EXTENSIONS
from openvcha.api.operation import (
    Operation,
    Parameter,
    Privilege,
    SessionAction,
    required_privilege,
)
from openvcha.api.secret import Secret
from openvcha.api.structures import (
    ActiveInfo,
    ClusterFilterSpec,
    ClusterInfo,
    ClusterSummary,
    CredentialsSpec,
    DatacenterFilterSpec,
    DatacenterSummary,
    DatastoreFilterSpec,
    DatastoreSummary,
    DeploymentTypeInfo,
    DeploySpec,
    FolderFilterSpec,
    FolderSummary,
    HostFilterSpec,
    HostSummary,
    ModeClusterMode,
    ModeInfo,
    NetworkFilterSpec,
    NetworkSummary,
    OperationsInfo,
    PassiveCheckResult,
    PassiveCheckSpec,
    PassiveRedeploySpec,
    ResourcePoolFilterSpec,
    ResourcePoolSummary,
    SessionInfo,
    TaskFilterSpec,
    TaskGetSpec,
    TaskId,
    TaskInfo,
    UndeploySpec,
    VmFilterSpec,
    VmSummary,
    WitnessCheckResult,
    WitnessCheckSpec,
    WitnessRedeploySpec,
)

__all__ = [
    "OPERATIONS",
    "Operation",
    "Parameter",
    "Privilege",
    "SessionAction",
    "by_id",
    "by_wire_name",
    "required_privilege",
]

_READ = Privilege.SYSTEM_READ
_CHANGE = Privilege.GLOBAL_VCSERVER

_CLUSTER = "com.vmware.vcenter.vcha.cluster"
_CLUSTER_PATH = "/vcenter/vcha/cluster"
_TASKS = "com.vmware.cis.tasks"
_SESSION = "com.vmware.cis.session"

_E = ErrorType
_SESSION_ERRORS = (_E.UNAUTHENTICATED, _E.SERVICE_UNAVAILABLE)
_TASK_ERRORS = (
    _E.RESOURCE_INACCESSIBLE,
    _E.SERVICE_UNAVAILABLE,
    _E.UNAUTHENTICATED,
    _E.UNAUTHORIZED,
)
_PLAIN_ERRORS = (_E.UNAUTHORIZED, _E.ERROR)
_PEER_ERRORS = (_E.INVALID_ARGUMENT, _E.UNAUTHORIZED, _E.UNVERIFIED_PEER, _E.ERROR)
_CHECK_ERRORS = (
    *_PEER_ERRORS,
    _E.NOT_FOUND,
    _E.INVALID_ELEMENT_CONFIGURATION,
    _E.NOT_ALLOWED_IN_CURRENT_STATE,
)
_LIST_ERRORS = (
    _E.UNABLE_TO_ALLOCATE_RESOURCE,
    _E.SERVICE_UNAVAILABLE,
    _E.UNAUTHENTICATED,
    _E.UNAUTHORIZED,
)

_TASK = Parameter("task", TaskId)
_GET = (Parameter("vc_spec", CredentialsSpec | None), Parameter("partial", bool | None))


def _spec(tp: type) -> tuple[Parameter, ...]:
    return (Parameter("spec", tp),)


def _session(
    action: SessionAction, method: str, summary: str, status: int, output: Any = None
) -> Operation:
    return Operation(
        service=_SESSION,
        name=action.value,
        method=method,
        path="/session",
        summary=summary,
        errors=_SESSION_ERRORS,
        output=output,
        status=status,
        writes=action is not SessionAction.SHOW,
        session=action,
    )


def _inventory(
    kind: str, path: str, filter_spec: Any, summary: Any, *errors: ErrorType
) -> Operation:
    return Operation(
        service=f"com.vmware.vcenter.{kind}",
        name="list",
        method="GET",
        path=f"/vcenter/{path}",
        summary=f"List the objects of kind {path} in the inventory.",
        errors=(*_LIST_ERRORS, *errors),
        parameters=(Parameter("filter", filter_spec | None, query=True),),
        output=tuple[summary, ...],
        privilege=_READ,
    )


_SESSIONS = (
    _session(SessionAction.LOG_IN, "POST", "Log in; returns the session's id.", 201, Secret),
    _session(SessionAction.SHOW, "GET", "Show who is logged in and since when.", 200, SessionInfo),
    _session(SessionAction.LOG_OUT, "DELETE", "Log out.", 204),
)

_TASK_SERVICE = (
    Operation(
        service=_TASKS,
        name="get",
        method="GET",
        path="/cis/tasks/{task}",
        summary="Show a task.",
        errors=(*_TASK_ERRORS, _E.NOT_FOUND, _E.ERROR),
        parameters=(_TASK, Parameter("spec", TaskGetSpec | None, query=True)),
        output=TaskInfo,
        privilege=_READ,
    ),
    Operation(
        service=_TASKS,
        name="list",
        method="POST",
        path="/cis/tasks",
        action="list",
        summary="List tasks by id, service and more.",
        errors=(*_TASK_ERRORS, _E.INVALID_ARGUMENT),
        parameters=(
            Parameter("filter_spec", TaskFilterSpec | None),
            Parameter("result_spec", TaskGetSpec | None),
        ),
        output=dict[TaskId, TaskInfo],
        privilege=_READ,
    ),
    Operation(
        service=_TASKS,
        name="cancel",
        method="POST",
        path="/cis/tasks/{task}",
        action="cancel",
        summary="Cancel a task: stop it at its next safe point and roll it back.",
        errors=(
            *_TASK_ERRORS,
            _E.NOT_ALLOWED_IN_CURRENT_STATE,
            _E.NOT_FOUND,
            _E.UNSUPPORTED,
            _E.ERROR,
        ),
        parameters=(_TASK,),
        writes=True,
        status=204,
        privilege=_CHANGE,
    ),
)

_CLUSTER_SERVICE = (
    Operation(
        service=_CLUSTER,
        name="get",
        method="POST",
        path=_CLUSTER_PATH,
        action="get",
        summary="Show the cluster: its nodes, mode and health.",
        errors=_PEER_ERRORS,
        parameters=_GET,
        output=ClusterInfo,
        privilege=_CHANGE,
    ),
    Operation(
        service=_CLUSTER,
        name="deploy",
        method="POST",
        path=_CLUSTER_PATH,
        action="deploy",
        task=True,
        summary="Deploy a cluster: add a passive and a witness to a single node.",
        errors=_PEER_ERRORS,
        parameters=_spec(DeploySpec),
        status=202,
        privilege=_CHANGE,
    ),
    Operation(
        service=_CLUSTER,
        name="failover",
        method="POST",
        path=_CLUSTER_PATH,
        action="failover",
        task=True,
        summary="Make the passive node the active one.",
        errors=_PLAIN_ERRORS,
        parameters=(Parameter("planned", bool),),
        status=202,
        privilege=_CHANGE,
    ),
    Operation(
        service=_CLUSTER,
        name="undeploy",
        method="POST",
        path=_CLUSTER_PATH,
        action="undeploy",
        task=True,
        summary="Dissolve the cluster; the active node continues alone.",
        errors=(*_PEER_ERRORS, _E.NOT_FOUND),
        parameters=_spec(UndeploySpec),
        status=202,
        privilege=_CHANGE,
    ),
    Operation(
        service="com.vmware.vcenter.vcha.operations",
        name="get",
        method="GET",
        path="/vcenter/vcha/operations",
        summary="Show which operations are running, and which cannot be called now.",
        errors=_PLAIN_ERRORS,
        output=OperationsInfo,
        privilege=_READ,
    ),
)

_NODE_SERVICES = (
    Operation(
        service=f"{_CLUSTER}.active",
        name="get",
        method="POST",
        path=f"{_CLUSTER_PATH}/active",
        action="get",
        summary="Show the active node's addresses and placement.",
        errors=(*_PEER_ERRORS, _E.INVALID_ELEMENT_CONFIGURATION, _E.NOT_FOUND),
        parameters=_GET,
        output=ActiveInfo,
        privilege=_CHANGE,
    ),
    Operation(
        service=f"{_CLUSTER}.deployment_type",
        name="get",
        method="GET",
        path=f"{_CLUSTER_PATH}/deployment-type",
        summary="Show how the cluster was deployed.",
        errors=_PLAIN_ERRORS,
        output=DeploymentTypeInfo,
        privilege=_READ,
    ),
    Operation(
        service=f"{_CLUSTER}.mode",
        name="get",
        method="GET",
        path=f"{_CLUSTER_PATH}/mode",
        summary="Show the cluster's mode.",
        errors=(*_PLAIN_ERRORS, _E.NOT_ALLOWED_IN_CURRENT_STATE),
        output=ModeInfo,
        privilege=_READ,
    ),
    Operation(
        service=f"{_CLUSTER}.mode",
        name="set",
        method="PUT",
        path=f"{_CLUSTER_PATH}/mode",
        task=True,
        summary="Change the cluster's mode.",
        errors=_PLAIN_ERRORS,
        parameters=(Parameter("mode", ModeClusterMode),),
        status=202,
        privilege=_CHANGE,
    ),
    Operation(
        service=f"{_CLUSTER}.passive",
        name="check",
        method="POST",
        path=f"{_CLUSTER_PATH}/passive",
        action="check",
        summary="Check for anything that would prevent a redeploy of the passive node.",
        errors=_CHECK_ERRORS,
        parameters=_spec(PassiveCheckSpec),
        output=PassiveCheckResult,
        privilege=_CHANGE,
    ),
    Operation(
        service=f"{_CLUSTER}.passive",
        name="redeploy",
        method="POST",
        path=f"{_CLUSTER_PATH}/passive",
        action="redeploy",
        task=True,
        summary="Replace a lost passive node with a new one.",
        errors=_PEER_ERRORS,
        parameters=_spec(PassiveRedeploySpec),
        status=202,
        privilege=_CHANGE,
    ),
    Operation(
        service=f"{_CLUSTER}.witness",
        name="check",
        method="POST",
        path=f"{_CLUSTER_PATH}/witness",
        action="check",
        summary="Check for anything that would prevent a redeploy of the witness node.",
        errors=_CHECK_ERRORS,
        parameters=_spec(WitnessCheckSpec),
        output=WitnessCheckResult,
        privilege=_CHANGE,
    ),
    Operation(
        service=f"{_CLUSTER}.witness",
        name="redeploy",
        method="POST",
        path=f"{_CLUSTER_PATH}/witness",
        action="redeploy",
        task=True,
        summary="Replace a lost witness node with a new one.",
        errors=_PEER_ERRORS,
        parameters=_spec(WitnessRedeploySpec),
        status=202,
        privilege=_CHANGE,
    ),
)

_INVENTORY = (
    _inventory("datacenter", "datacenter", DatacenterFilterSpec, DatacenterSummary),
    _inventory("cluster", "cluster", ClusterFilterSpec, ClusterSummary),
    _inventory("folder", "folder", FolderFilterSpec, FolderSummary, _E.INVALID_ARGUMENT),
    _inventory("host", "host", HostFilterSpec, HostSummary, _E.INVALID_ARGUMENT),
    _inventory("resource_pool", "resource-pool", ResourcePoolFilterSpec, ResourcePoolSummary),
    _inventory("network", "network", NetworkFilterSpec, NetworkSummary, _E.INVALID_ARGUMENT),
    _inventory(
        "datastore", "datastore", DatastoreFilterSpec, DatastoreSummary, _E.INVALID_ARGUMENT
    ),
    _inventory("VM", "vm", VmFilterSpec, VmSummary, _E.INVALID_ARGUMENT),
)

OPERATIONS: tuple[Operation, ...] = (
    *_SESSIONS,
    *_TASK_SERVICE,
    *_CLUSTER_SERVICE,
    *_NODE_SERVICES,
    *_INVENTORY,
    *EXTENSIONS,
)


@cache
def _ids() -> dict[str, Operation]:
    return {operation.id: operation for operation in OPERATIONS}


@cache
def _wire_names() -> dict[tuple[str, str], Operation]:
    return {(operation.service, operation.wire_name): operation for operation in OPERATIONS}


def by_id(operation_id: str) -> Operation:
    """Return the operation of this id: com.vmware.vcenter.vcha.cluster.get. Raises KeyError."""
    return _ids()[operation_id]


def by_wire_name(service: str, wire_name: str) -> Operation | None:
    """Return the operation with these vAPI names; None when there is none."""
    return _wire_names().get((service, wire_name))
