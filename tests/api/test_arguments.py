"""The parameters of an operation are decoded from path, query and body, and from vAPI's input."""

import json
from typing import Any

import pytest

from openvcha.api.codec.decode import decode_arguments_rest, decode_arguments_vapi
from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.operations import Operation, by_id
from openvcha.api.structures import (
    CredentialsSpec,
    DatastoreFilterSpec,
    DatastoreType,
    FolderFilterSpec,
    FolderType,
    HostFilterSpec,
    ModeClusterMode,
    PassiveRedeploySpec,
    PlacementSpec,
    TaskFilterSpec,
    TaskGetSpec,
    UndeploySpec,
)

CLUSTER = "com.vmware.vcenter.vcha.cluster"
REDEPLOY = by_id(f"{CLUSTER}.passive.redeploy")
GET = by_id(f"{CLUSTER}.get")
FAILOVER = by_id(f"{CLUSTER}.failover")
MODE_SET = by_id(f"{CLUSTER}.mode.set")
MODE_GET = by_id(f"{CLUSTER}.mode.get")
UNDEPLOY = by_id(f"{CLUSTER}.undeploy")
TASK_GET = by_id("com.vmware.cis.tasks.get")
TASK_LIST = by_id("com.vmware.cis.tasks.list")
TASK_CANCEL = by_id("com.vmware.cis.tasks.cancel")
DATASTORES = by_id("com.vmware.vcenter.datastore.list")
FOLDERS = by_id("com.vmware.vcenter.folder.list")
HOSTS = by_id("com.vmware.vcenter.host.list")

PLACED = {"placement": {"name": "p", "folder": "group-v3"}}
SPEC = PassiveRedeploySpec(placement=PlacementSpec(name="p", folder="group-v3"))

Query = list[tuple[str, str]]


def rest(
    operation: Operation,
    body: object = None,
    query: Query | None = None,
    wrapped: bool = False,
    **path: str,
) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    return decode_arguments_rest(operation, data, path, query or [], wrapped)


def refused(
    operation: Operation, body: object = None, query: Query | None = None, wrapped: bool = False
) -> tuple[ErrorType, str, str]:
    """Return type, last message and path of the error."""
    with pytest.raises(ApiError) as caught:
        rest(operation, body, query, wrapped)
    last = caught.value.messages[-1]
    name = last.id.removeprefix("com.vmware.vcenter.vcha.").removeprefix("vapi.data.structure.")
    return caught.value.error_type, name, last.args[0]


def vapi(operation: Operation, **fields: object) -> dict[str, Any]:
    return decode_arguments_vapi(operation, {"STRUCTURE": {"operation-input": fields}})


def test_single_spec_is_the_body() -> None:
    """On /api a single `spec` is the body itself, on /rest it is a named field."""
    assert rest(REDEPLOY, PLACED) == {"spec": SPEC}
    assert rest(REDEPLOY, {"spec": PLACED}, wrapped=True) == {"spec": SPEC}


def test_the_other_way_is_refused() -> None:
    """The body of one API is refused in the other."""
    assert refused(REDEPLOY, {"spec": PLACED}) == (
        ErrorType.UNEXPECTED_INPUT,
        "field.unexpected",
        "spec.spec",
    )
    assert refused(REDEPLOY, PLACED, wrapped=True) == (
        ErrorType.UNEXPECTED_INPUT,
        "field.unexpected",
        "placement",
    )


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("body", [None, b"", b" \r\n", b"null"])
def test_a_body_that_is_needed(body: bytes | None, wrapped: bool) -> None:
    """Without a body the specification is missing."""
    with pytest.raises(ApiError) as caught:
        decode_arguments_rest(REDEPLOY, body, {}, [], wrapped)
    assert caught.value.error_type is ErrorType.INVALID_ARGUMENT
    assert caught.value.messages[0].args == ("spec",)


def test_an_empty_spec_lacks_its_fields() -> None:
    """An empty specification is present, and lacks what is required."""
    assert refused(REDEPLOY, {}) == (ErrorType.INVALID_ARGUMENT, "field.missing", "spec.placement")
    assert rest(UNDEPLOY, {}) == {"spec": UndeploySpec()}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("body", [None, b"", b"{}", b"null", b'{"partial": null}'])
def test_a_body_that_is_optional(body: bytes | None, wrapped: bool) -> None:
    """When all parameters are optional, the body may be empty."""
    arguments = decode_arguments_rest(GET, body, {}, [("action", "get")], wrapped)
    assert arguments == {"vc_spec": None, "partial": None}


@pytest.mark.parametrize("wrapped", [False, True])
def test_several_parameters_are_an_object(wrapped: bool) -> None:
    """Several parameters, or one that is not `spec`, form an object in both APIs."""
    body = {"partial": True, "vc_spec": {"active_location": {"hostname": "h"}}}
    arguments = rest(GET, body, wrapped=wrapped)
    assert arguments["partial"] is True
    assert isinstance(arguments["vc_spec"], CredentialsSpec)
    assert rest(FAILOVER, {"planned": False}, wrapped=wrapped) == {"planned": False}
    mode = {"mode": ModeClusterMode.MAINTENANCE}
    assert rest(MODE_SET, {"mode": "MAINTENANCE"}, wrapped=wrapped) == mode


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        (GET, {"part": 1}, (ErrorType.UNEXPECTED_INPUT, "field.unexpected", "part")),
        (GET, {"partial": 1}, (ErrorType.INVALID_ARGUMENT, "decode.type", "partial")),
        (GET, [], (ErrorType.INVALID_ARGUMENT, "decode.type", "The value")),
        (
            GET,
            {"vc_spec": {"active_location": {}}},
            (ErrorType.INVALID_ARGUMENT, "field.missing", "vc_spec.active_location.hostname"),
        ),
        (FAILOVER, None, (ErrorType.INVALID_ARGUMENT, "field.missing", "planned")),
        (FAILOVER, {"planned": "true"}, (ErrorType.INVALID_ARGUMENT, "decode.type", "planned")),
        (MODE_SET, {"mode": "OFF"}, (ErrorType.INVALID_ARGUMENT, "decode.enum", "mode")),
        (REDEPLOY, [], (ErrorType.INVALID_ARGUMENT, "decode.type", "spec")),
        (MODE_GET, {"x": 1}, (ErrorType.UNEXPECTED_INPUT, "field.unexpected", "x")),
    ],
)
def test_bad_bodies(
    operation: Operation, body: object, expected: tuple[ErrorType, str, str]
) -> None:
    """A body that does not match the parameters is refused by its path."""
    assert refused(operation, body) == expected


def test_bodies_that_say_nothing() -> None:
    """An operation without parameters in the body accepts an empty one."""
    assert rest(MODE_GET, {}) == {}
    assert rest(TASK_CANCEL, {}, task="t:g") == {"task": "t:g"}


def test_bodies_are_parsed_strictly() -> None:
    """A body that is not valid JSON is INVALID_REQUEST."""
    with pytest.raises(ApiError) as caught:
        decode_arguments_rest(REDEPLOY, b'{"placement": ', {}, [])
    assert caught.value.error_type is ErrorType.INVALID_REQUEST


@pytest.mark.parametrize("text", ["true", "True", "TRUE"])
def test_query_of_a_task(text: str) -> None:
    """The fields of `spec` are in the query; booleans in any case."""
    arguments = rest(TASK_GET, query=[("exclude_result", text)], task="t:g")
    assert arguments == {"task": "t:g", "spec": TaskGetSpec(exclude_result=True)}
    assert rest(TASK_GET, task="t:g") == {"task": "t:g", "spec": None}


def test_query_of_a_list() -> None:
    """A set repeats its name; a single value appears once."""
    query = [("names", "a"), ("types", "NFS"), ("names", "b"), ("types", "VMFS")]
    assert rest(DATASTORES, query=query) == {
        "filter": DatastoreFilterSpec(
            names=frozenset({"a", "b"}), types=frozenset({DatastoreType.NFS, DatastoreType.VMFS})
        )
    }
    assert rest(FOLDERS, query=[("type", "VIRTUAL_MACHINE")]) == {
        "filter": FolderFilterSpec(type=FolderType.VIRTUAL_MACHINE)
    }
    assert rest(DATASTORES) == {"filter": None}


def test_query_of_an_old_client() -> None:
    """On /rest names may have their parameter as a prefix, and an index; not on /api."""
    query = [("filter.names.1", "a"), ("filter.names.2", "b"), ("filter.standalone", "false")]
    assert rest(HOSTS, query=query, wrapped=True) == {
        "filter": HostFilterSpec(names=frozenset({"a", "b"}), standalone=False)
    }
    assert refused(HOSTS, query=query)[0] is ErrorType.UNEXPECTED_INPUT


def test_empty_values_in_the_query_are_unset() -> None:
    """A name without a value is ignored."""
    arguments = rest(FOLDERS, query=[("type", ""), ("names", ""), ("folders", "f")])
    assert arguments == {"filter": FolderFilterSpec(folders=frozenset({"f"}))}


def test_verbs_are_passed_over() -> None:
    """The query parameters that select the operation are not its arguments."""
    query = [("action", "redeploy"), ("vmw-task", "true")]
    assert rest(REDEPLOY, PLACED, query=query) == {"spec": SPEC}


@pytest.mark.parametrize(
    ("operation", "query", "expected"),
    [
        (DATASTORES, [("name", "x")], (ErrorType.UNEXPECTED_INPUT, "field.unexpected", "name")),
        (GET, [("partial", "true")], (ErrorType.UNEXPECTED_INPUT, "field.unexpected", "partial")),
        (DATASTORES, [("types", "X")], (ErrorType.INVALID_ARGUMENT, "decode.enum", "types[0]")),
        (HOSTS, [("standalone", "1")], (ErrorType.INVALID_ARGUMENT, "decode.type", "standalone")),
        (
            HOSTS,
            [("standalone", "true"), ("standalone", "false")],
            (ErrorType.INVALID_ARGUMENT, "decode.query.repeated", "standalone"),
        ),
    ],
)
def test_bad_queries(
    operation: Operation, query: Query, expected: tuple[ErrorType, str, str]
) -> None:
    """An unknown, invalid or repeated parameter is refused by its name."""
    assert refused(operation, query=query) == expected


def test_vapi_input() -> None:
    """vAPI sends every parameter by name; optional ones may be omitted."""
    assert vapi(GET) == {"vc_spec": None, "partial": None}
    assert vapi(GET, partial={"OPTIONAL": True}) == {"vc_spec": None, "partial": True}
    assert vapi(FAILOVER, planned=True) == {"planned": True}
    assert vapi(TASK_GET, task="t") == {"task": "t", "spec": None}
    name = "com.vmware.cis.tasks.filter_spec"
    spec = {"OPTIONAL": {"STRUCTURE": {name: {"tasks": {"OPTIONAL": ["t"]}}}}}
    assert vapi(TASK_LIST, filter_spec=spec) == {
        "filter_spec": TaskFilterSpec(tasks=frozenset({"t"})),
        "result_spec": None,
    }


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, ErrorType.INVALID_ARGUMENT),
        ({}, ErrorType.INVALID_ARGUMENT),
        ({"STRUCTURE": {"input": {}}}, ErrorType.INVALID_ARGUMENT),
        ({"STRUCTURE": {"operation-input": {}}}, ErrorType.INVALID_ARGUMENT),
        ({"STRUCTURE": {"operation-input": {"planned": 1}}}, ErrorType.INVALID_ARGUMENT),
        ({"STRUCTURE": {"operation-input": {"x": 1}}}, ErrorType.UNEXPECTED_INPUT),
    ],
)
def test_bad_vapi_input(value: object, error: ErrorType) -> None:
    """An input of another shape is refused."""
    with pytest.raises(ApiError) as caught:
        decode_arguments_vapi(FAILOVER, value)
    assert caught.value.error_type is error
