"""A call of any operation, by REST and by JSON-RPC, built from one example."""

from collections.abc import Mapping
from typing import Any

from tests.support.edge import Edge, example

from openvcha.api.codec.encode import encode_rest, encode_vapi
from openvcha.api.operations import Operation
from openvcha.api.types import OptionalType, StructType, descriptor


def arguments_of(operation: Operation) -> dict[str, Any]:
    """Return an example of an operation's arguments."""
    return {each.name: example(each.type) for each in operation.parameters}


def rest_request(operation: Operation, arguments: Mapping[str, Any], *, wrapped: bool) -> Any:
    """Return the method, path, query and body of the REST call."""
    path = operation.path.format(**{p.name: arguments[p.name] for p in operation.path_parameters})
    query = [("action", operation.action)] if operation.action else []
    query += [("vmw-task", "true")] if operation.task else []
    for parameter in operation.query_parameters:
        query += query_of(parameter.type, arguments[parameter.name])
    body = {p.name: encode_rest(p.type, arguments[p.name]) for p in operation.body_parameters}
    if operation.body_is_spec and not wrapped:
        body = body["spec"]
    return operation.method, path, query, body or None


def query_of(tp: Any, value: Any) -> list[tuple[str, str]]:
    """Return a value as pairs of a query string."""
    type_ = descriptor(tp)
    structure = type_.element if isinstance(type_, OptionalType) else type_
    assert isinstance(structure, StructType)
    return [
        (name, str(text).lower() if isinstance(text, bool) else text)
        for name, encoded in encode_rest(structure.cls, value).items()
        for text in (encoded if isinstance(encoded, list) else [encoded])
    ]


async def call_rest(edge: Edge, operation: Operation, *, prefix: str) -> Any:
    """Call an operation by REST with its example, and return the response."""
    wrapped = prefix == "/rest"
    method, path, query, body = rest_request(operation, arguments_of(operation), wrapped=wrapped)
    return await edge.client.request(
        method, prefix + path, params=query, json=body, headers=await edge.headers()
    )


def rpc_request(operation: Operation, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON-RPC envelope of the call."""
    fields = {p.name: encode_vapi(p.type, arguments[p.name]) for p in operation.parameters}
    return {
        "jsonrpc": "2.0",
        "id": "7",
        "method": "invoke",
        "params": {
            "serviceId": operation.service,
            "operationId": operation.wire_name,
            "input": {"STRUCTURE": {"operation-input": fields}},
            "ctx": {"appCtx": {"opId": "client-op"}},
        },
    }


async def call_rpc(edge: Edge, operation: Operation, **more: Any) -> Any:
    """Call an operation by JSON-RPC with its example, and return the response."""
    request = rpc_request(operation, arguments_of(operation)) | more
    return await edge.client.post("/api", json=request, headers=await edge.headers())
