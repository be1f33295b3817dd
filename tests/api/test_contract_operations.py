"""The table of operations matches the official SDK and api.md."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
import requests
from vmware.vapi.lib.connect import get_requests_connector
from vmware.vapi.stdlib.client.factories import StubConfigurationFactory

from openvcha.api.errors import STATUS, ErrorType
from openvcha.api.operations import OPERATIONS, Operation, Privilege, by_id, by_wire_name
from openvcha.api.operations import required_privilege as required
from openvcha.api.types import descriptor

CLUSTER = "com.vmware.vcenter.vcha.cluster"

# Service, name, REST as api.md has it, success.
ROWS = [
    ("com.vmware.cis.session", "create", "POST /session", 201),
    ("com.vmware.cis.session", "get", "GET /session", 200),
    ("com.vmware.cis.session", "delete", "DELETE /session", 204),
    ("com.vmware.cis.tasks", "get", "GET /cis/tasks/{task}", 200),
    ("com.vmware.cis.tasks", "list", "POST /cis/tasks?action=list", 200),
    ("com.vmware.cis.tasks", "cancel", "POST /cis/tasks/{task}?action=cancel", 204),
    (CLUSTER, "get", "POST /vcenter/vcha/cluster?action=get", 200),
    (CLUSTER, "deploy", "POST /vcenter/vcha/cluster?action=deploy&vmw-task=true", 202),
    (CLUSTER, "failover", "POST /vcenter/vcha/cluster?action=failover&vmw-task=true", 202),
    (CLUSTER, "undeploy", "POST /vcenter/vcha/cluster?action=undeploy&vmw-task=true", 202),
    ("com.vmware.vcenter.vcha.operations", "get", "GET /vcenter/vcha/operations", 200),
    (f"{CLUSTER}.active", "get", "POST /vcenter/vcha/cluster/active?action=get", 200),
    (f"{CLUSTER}.deployment_type", "get", "GET /vcenter/vcha/cluster/deployment-type", 200),
    (f"{CLUSTER}.mode", "get", "GET /vcenter/vcha/cluster/mode", 200),
    (f"{CLUSTER}.mode", "set", "PUT /vcenter/vcha/cluster/mode?vmw-task=true", 202),
    (f"{CLUSTER}.passive", "check", "POST /vcenter/vcha/cluster/passive?action=check", 200),
    (
        f"{CLUSTER}.passive",
        "redeploy",
        "POST /vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true",
        202,
    ),
    (f"{CLUSTER}.witness", "check", "POST /vcenter/vcha/cluster/witness?action=check", 200),
    (
        f"{CLUSTER}.witness",
        "redeploy",
        "POST /vcenter/vcha/cluster/witness?action=redeploy&vmw-task=true",
        202,
    ),
    ("com.vmware.vcenter.datacenter", "list", "GET /vcenter/datacenter", 200),
    ("com.vmware.vcenter.cluster", "list", "GET /vcenter/cluster", 200),
    ("com.vmware.vcenter.folder", "list", "GET /vcenter/folder", 200),
    ("com.vmware.vcenter.host", "list", "GET /vcenter/host", 200),
    ("com.vmware.vcenter.resource_pool", "list", "GET /vcenter/resource-pool", 200),
    ("com.vmware.vcenter.network", "list", "GET /vcenter/network", 200),
    ("com.vmware.vcenter.datastore", "list", "GET /vcenter/datastore", 200),
    ("com.vmware.vcenter.VM", "list", "GET /vcenter/vm", 200),
    ("org.openvcha.events", "list", "GET /openvcha/events", 200),
    ("org.openvcha.audit", "list", "GET /openvcha/audit", 200),
    ("org.openvcha.joining", "issue", "POST /openvcha/join-tokens", 200),
    ("org.openvcha.joining", "list", "GET /openvcha/join-tokens", 200),
    ("org.openvcha.joining", "revoke", "POST /openvcha/join-tokens?action=revoke", 200),
    ("org.openvcha.joining", "join", "POST /openvcha/joins", 200),
    ("org.openvcha.hosts", "list", "GET /openvcha/hosts", 200),
    ("org.openvcha.hosts", "add", "POST /openvcha/hosts", 200),
    ("org.openvcha.hosts", "set", "POST /openvcha/hosts?action=set", 200),
    ("org.openvcha.hosts", "remove", "POST /openvcha/hosts?action=remove", 200),
]

# The SDK does not know our own services; everything else is compared with it.
OWN = {
    "org.openvcha.events",
    "org.openvcha.audit",
    "org.openvcha.joining",
    "org.openvcha.hosts",
}
OF_THE_SDK = [operation for operation in OPERATIONS if operation.service not in OWN]

# The documented statuses of api.md; 401 and 503 come before the operation itself in VCHA's rows.
DOCUMENTED = {
    "com.vmware.cis.session.create": {401, 503},
    "com.vmware.cis.session.get": {401, 503},
    "com.vmware.cis.session.delete": {401, 503},
    "com.vmware.cis.tasks.get": {401, 403, 404, 500, 503},
    "com.vmware.cis.tasks.list": {400, 401, 403, 500, 503},
    "com.vmware.cis.tasks.cancel": {400, 401, 403, 404, 500, 503},
    f"{CLUSTER}.get": {400, 403, 500},
    f"{CLUSTER}.deploy": {400, 403, 500},
    f"{CLUSTER}.failover": {403, 500},
    f"{CLUSTER}.undeploy": {400, 403, 404, 500},
    "com.vmware.vcenter.vcha.operations.get": {403, 500},
    f"{CLUSTER}.active.get": {400, 403, 404, 500},
    f"{CLUSTER}.deployment_type.get": {403, 500},
    f"{CLUSTER}.mode.get": {400, 403, 500},
    f"{CLUSTER}.mode.set": {403, 500},
    f"{CLUSTER}.passive.check": {400, 403, 404, 500},
    f"{CLUSTER}.passive.redeploy": {400, 403, 500},
    f"{CLUSTER}.witness.check": {400, 403, 404, 500},
    f"{CLUSTER}.witness.redeploy": {400, 403, 500},
}

# The SDK's metadata has another method there than the official specification, which we follow.
OTHER_METHOD = {"com.vmware.cis.tasks.list"}


def rest(operation: Operation) -> str:
    query = [f"action={operation.action}"] if operation.action else []
    query += ["vmw-task=true"] if operation.task else []
    return f"{operation.method} {operation.path}" + ("?" + "&".join(query) if query else "")


@pytest.fixture(scope="module")
def stubs(sdk: Mapping[str, ModuleType]) -> Mapping[str, Any]:
    """Return the SDK's stubs by service."""
    connector = get_requests_connector(
        requests.Session(), url="https://127.0.0.1/api", msg_protocol="json"
    )
    configuration = StubConfigurationFactory.new_std_configuration(connector)
    made = [
        cls(configuration)
        for module in sdk.values()
        for name, cls in vars(module).items()
        if name.endswith("Stub") and getattr(cls, "__module__", "") == module.__name__
    ]
    return {stub._iface_id.get_name(): stub for stub in made}


def test_rows_are_those_of_the_document() -> None:
    """All 19 operations, the 8 lists and ours are there, in order, with REST call and status."""
    found = [(row.service, row.name, rest(row), row.status) for row in OPERATIONS]
    assert found == ROWS


def test_our_own_services_are_told_apart_from_vcenters() -> None:
    """None of ours is under com.vmware, and all of vCenter's are checked."""
    assert {
        each.service for each in OPERATIONS if not each.service.startswith("com.vmware.")
    } == OWN
    assert len(OF_THE_SDK) == len([row for row in ROWS if row[0].startswith("com.vmware.")])


def test_what_changes_something_is_audited() -> None:
    """Tasks, cancelling, and sessions; read-only operations are listed."""
    assert {each.name for each in OPERATIONS if not each.changes} == {"get", "list", "check"}
    assert all(each.changes for each in OPERATIONS if each.task)


def test_rows_are_unambiguous() -> None:
    """No two operations share an id or a REST call."""
    assert len({operation.id for operation in OPERATIONS}) == len(OPERATIONS)
    assert len({rest(operation) for operation in OPERATIONS}) == len(OPERATIONS)


def test_rows_are_found_by_their_names() -> None:
    """Each row is found by its id and by its vAPI names."""
    for operation in OPERATIONS:
        assert by_id(operation.id) is operation
        assert by_wire_name(operation.service, operation.wire_name) is operation
    assert by_wire_name(f"{CLUSTER}.passive", "redeploy") is None
    assert by_wire_name("com.vmware.nothing", "get") is None
    with pytest.raises(KeyError):
        by_id("com.vmware.nothing.get")


def theirs(type_: Any) -> str:
    """Return a short name of the SDK's type that ours can be compared with."""
    kind = type(type_).__name__
    match kind:
        case "ReferenceType":
            return theirs(type_.resolved_type)
        case "StructType" | "EnumType":
            return str(type_.name)
        case "OptionalType" | "ListType":
            return f"{kind}({theirs(type_.element_type)})"
        case "MapType":
            return f"{kind}({theirs(type_.key_type)}, {theirs(type_.value_type)})"
    return kind


def ours(tp: Any) -> str:
    return short(descriptor(tp))


def short(type_: Any) -> str:
    kind = type(type_).__name__
    match kind:
        case "StructType" | "EnumType":
            return str(type_.name)
        case "OptionalType" | "ListType":
            return f"{kind}({short(type_.element)})"
        case "MapType":
            return f"{kind}({short(type_.key)}, {short(type_.value)})"
    return kind


def test_what_is_ours_has_a_name_of_ours(stubs: Mapping[str, Any]) -> None:
    """No operation of the SDK can be skipped by declaring it ours."""
    ours_alone = {each.service for each in OPERATIONS if each.service not in stubs}
    assert ours_alone == OWN
    assert all(service.startswith("org.openvcha.") for service in ours_alone)


@pytest.mark.parametrize("operation", OF_THE_SDK, ids=lambda operation: operation.id)
def test_input_output_and_errors_are_those_of_the_sdk(
    operation: Operation, stubs: Mapping[str, Any]
) -> None:
    """Each row has the SDK's parameters, result and errors."""
    known = stubs[operation.service]._operations[operation.wire_name]
    fields = known["input_type"]
    expected = [(name, theirs(fields.get_field(name))) for name in fields.get_field_names()]
    assert [(each.name, ours(each.type)) for each in operation.parameters] == expected
    assert ours(operation.reply) == theirs(known["output_type"])
    assert {error.structure for error in operation.errors} == set(known["errors"])
    assert len(set(operation.errors)) == len(operation.errors)


@pytest.mark.parametrize("operation", OF_THE_SDK, ids=lambda operation: operation.id)
def test_rest_is_that_of_the_sdk(operation: Operation, stubs: Mapping[str, Any]) -> None:
    """Each row has the SDK's method, path and path parameters."""
    known = stubs[operation.service]._rest_metadata[operation.name]
    if operation.id not in OTHER_METHOD:
        assert operation.method == known.http_method
    assert operation.path == known._url_template
    in_path = [parameter.name for parameter in operation.path_parameters]
    assert in_path == list(known._path_variables or [])


def test_every_operation_of_vcha_is_there(stubs: Mapping[str, Any]) -> None:
    """The table has every SDK operation of VCHA, sessions and tasks."""
    ids = {(operation.service, operation.wire_name) for operation in OPERATIONS}
    services = {operation.service for operation in OPERATIONS[:19]}
    assert {(service, name) for service in services for name in stubs[service]._operations} <= ids


def test_statuses_are_documented() -> None:
    """The errors of a row have exactly the statuses that api.md has for it."""
    for name, statuses in DOCUMENTED.items():
        assert {STATUS[error] for error in by_id(name).errors} == statuses, name


def test_availability() -> None:
    """No operation answers UNSUPPORTED any more."""
    assert [each.id for each in OPERATIONS if not each.available] == []


def test_privileges() -> None:
    """Changes and full reads need Global.VCServer, other reads System.Read, sessions none."""
    for operation in OPERATIONS:
        if operation.service == "com.vmware.cis.session" or not operation.authenticated:
            assert operation.privilege is None
        elif operation.changes or operation.name == "check" or "audit" in operation.service:
            assert operation.privilege is Privilege.GLOBAL_VCSERVER
    assert by_id("org.openvcha.joining.issue").privilege is Privilege.GLOBAL_VCSERVER
    assert [each.id for each in OPERATIONS if not each.authenticated] == [
        "org.openvcha.joining.join"
    ]
    for name in ("cluster.get", "cluster.active.get"):
        get = by_id(f"com.vmware.vcenter.vcha.{name}")
        assert required(get, {"partial": None}) is Privilege.GLOBAL_VCSERVER
        assert required(get, {"partial": False}) is Privilege.GLOBAL_VCSERVER
        assert required(get, {"partial": True}) is Privilege.SYSTEM_READ
    assert required(by_id("org.openvcha.events.list"), {}) is Privilege.SYSTEM_READ
    for name in ("vcha.operations.get", "vcha.cluster.mode.get", "datastore.list"):
        plain = by_id(f"com.vmware.vcenter.{name}")
        assert required(plain, {}) is Privilege.SYSTEM_READ


def test_where_parameters_travel() -> None:
    """Each parameter travels in exactly one place; GET and DELETE have no body."""
    for operation in OPERATIONS:
        places = operation.path_parameters + operation.query_parameters + operation.body_parameters
        assert sorted(each.name for each in places) == sorted(
            each.name for each in operation.parameters
        )
        if operation.method in ("GET", "DELETE"):
            assert not operation.body_parameters
    assert by_id(f"{CLUSTER}.passive.redeploy").body_is_spec
    assert not by_id(f"{CLUSTER}.mode.set").body_is_spec
    assert not by_id("com.vmware.cis.tasks.get").body_is_spec


def test_unauthenticated_is_not_of_the_operations_of_vcha() -> None:
    """It occurs before the operation, so VCHA's rows do not list it."""
    for operation in OPERATIONS:
        if operation.service.startswith("com.vmware.vcenter.vcha"):
            assert ErrorType.UNAUTHENTICATED not in operation.errors
