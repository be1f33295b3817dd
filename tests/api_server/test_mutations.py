"""Recorded requests with one change: each gets a standard error, or the change was understood.

One field, header or parameter is dropped, duplicated, of another type, or far too large. The answer
is never an internal error, and the change is never ignored: what reaches the operation says the
same as the request.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest
from tests.support.edge import ADMINISTRATOR, PASSWORD, WIRE, Edge, example
from tests.support.every_operation import rest_request
from tests.support.schema_agrees import described, fields_set

from openvcha.api.codec.decode import decode_arguments_vapi, decode_error_rest, decode_error_vapi
from openvcha.api.codec.encode import encode_rest, encode_vapi
from openvcha.api.errors import LEGACY_STATUS, STATUS, ApiError, ErrorType
from openvcha.api.operations import Operation, by_wire_name
from openvcha.api.types import descriptor

SESSION = "vmware-api-session-id"
LOGIN = "com.vmware.cis.session"
#: One recording of each form; its answer does not matter here.
NAMES = (
    "check",
    "cluster.get.vc_spec",
    "mode.get",
    "redeploy_task.ipv4",
    "session.create",
    "tasks.get.running",
    "tasks.list",
)
MISSING = object()
RETYPED: tuple[Any, ...] = (None, "", "text", 0, True, 1.5, [], ["text"], {}, {"a": 1})
LARGE: tuple[Any, ...] = (
    "x" * 9000,
    10**30,
    list(range(2000)),
    json.loads("[" * 70 + "]" * 70),
)
VERBS = ("action", "vmw-task")
RPC_CODES = {-32700, -32600, -32601, -32602}


class Twice:
    """Marks a key that occurs twice in a document."""

    def __init__(self, value: Any) -> None:
        self.value = value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the path of each value in a document except the root."""
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for step, inner in pairs:
        yield (*path, step)
        yield from places(inner, (*path, step))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return the document with one value replaced."""
    step, *rest = path
    copy = dict(document) if isinstance(document, dict) else list(document)
    if rest:
        copy[step] = changed(document[step], tuple(rest), value)
    elif value is MISSING:
        del copy[step]
    else:
        copy[step] = value
    return copy


def mutations(document: Any) -> Iterator[tuple[str, Any]]:
    """Return each document with one change, and a description of the change."""
    for path in places(document):
        shown = ".".join(map(str, path))
        yield f"{shown} dropped", changed(document, path, MISSING)
        if isinstance(path[-1], str):
            found = document
            for step in path:
                found = found[step]
            yield f"{shown} twice", changed(document, path, Twice(found))
            unknown = (*path[:-1], "unknown")
            yield f"{shown} and another", changed(document, unknown, "text")
        for value in (*RETYPED, *LARGE):
            yield f"{shown} = {str(value)[:30]}", changed(document, path, value)


def written(document: Any) -> bytes:
    """Encode a document as JSON, with its duplicate keys."""
    return _text(document).encode()


def _text(value: Any) -> str:
    if isinstance(value, dict):
        pairs = []
        for key, each in value.items():
            again = isinstance(each, Twice)
            pair = f"{json.dumps(key)}:{_text(each.value if again else each)}"
            pairs += [pair, pair] if again else [pair]
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value)


def recorded(name: str) -> tuple[Operation, dict[str, Any]]:
    """Return a recorded request and the operation that it calls."""
    request: dict[str, Any] = json.loads((WIRE / f"{name}.request.json").read_bytes())
    operation = by_wire_name(request["params"]["serviceId"], request["params"]["operationId"])
    assert operation is not None
    return operation, request


def arguments_of(operation: Operation, request: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded request with REST's query parameters added, so that there is a query."""
    found = decode_arguments_vapi(operation, request["params"]["input"])
    more = {p.name: example(p.type) for p in operation.query_parameters if found[p.name] is None}
    return found | more


def declared(operation: Operation, error: ApiError) -> None:
    """Check that the operation declares an error, and that it is not internal."""
    assert error.messages
    assert all(len(said.default_message) < 2500 for said in error.messages)
    names = described(operation)["responses"].get(str(STATUS[error.error_type]), {})
    ours = {ErrorType.INTERNAL_SERVER_ERROR, ErrorType.ERROR}
    assert error.error_type not in ours
    assert error.error_type.value in names.get("description", "").split(" or "), str(error)


def said_again(operation: Operation, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reached the operation as plain JSON, without unset fields."""
    types = {each.name: descriptor(each.type) for each in operation.parameters}
    made = {
        each.name: encode_rest(each.type, arguments[each.name]) for each in operation.parameters
    }
    said = {name: each for name, each in made.items() if each is not None}
    again: dict[str, Any] = ordered(fields_set(types, said))
    return again


def ordered(value: Any) -> Any:
    """Return plain JSON with lists sorted: sets are lists on the wire."""
    if isinstance(value, dict):
        return {name: ordered(each) for name, each in value.items()}
    if isinstance(value, list):
        return sorted((ordered(each) for each in value), key=repr)
    return value


async def reached(edge: Edge) -> Mapping[str, Any] | None:
    """Return the arguments that reached the operation, None when it was not called."""
    calls = list(edge.dispatcher.calls)
    edge.dispatcher.calls.clear()
    return calls[0][1] if calls else None


async def fresh(edge: Edge, request: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded request with a session, or a user, that exists."""
    context = request["params"]["ctx"].get("securityCtx") or {}
    if "sessionId" in context:
        return changed(request, ("params", "ctx", "securityCtx", "sessionId"), await edge.token())  # type: ignore[no-any-return]
    context = {**context, "userName": ADMINISTRATOR, "password": PASSWORD}
    return changed(request, ("params", "ctx", "securityCtx"), context)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NAMES)
async def test_json_rpc(edge: Edge, name: str) -> None:
    """As the SDK speaks it."""
    operation, request = recorded(name)
    request = await fresh(edge, request)
    for what, document in mutations(request):
        body = written(document)
        reply = await edge.client.post(
            "/api", content=body, headers={"content-type": "application/json"}
        )
        assert reply.status_code == 200, what
        answer = reply.json()
        arguments = await reached(edge)
        if "error" in answer:
            assert answer["error"]["code"] in RPC_CODES, what
            assert len(answer["error"]["message"]) < 2500
            assert arguments is None
        elif "error" in answer["result"]:
            called = by_wire_name(
                document["params"]["serviceId"], document["params"]["operationId"]
            )
            error = decode_error_vapi(answer["result"]["error"])
            if called is None:
                assert error.error_type is ErrorType.OPERATION_NOT_FOUND, what
            else:
                declared(operation, error)
            assert arguments is None
        else:
            assert answer["id"] == document["id"]
            assert not isinstance(document["id"], bool), what
            context_said(document["params"].get("ctx"), what)
            input_said(operation, document["params"]["input"], arguments, what)


def context_said(context: Any, what: str) -> None:
    """Check the context against the only forms that are accepted."""
    for each in (context, *((context or {}).get(name) for name in ("appCtx", "securityCtx"))):
        assert each is None or isinstance(each, dict | Twice), what


def input_said(
    operation: Operation, given: Any, arguments: Mapping[str, Any] | None, what: str
) -> None:
    """Check what reached the operation against the wrapped input."""
    if operation.service == LOGIN:
        assert given == {"STRUCTURE": {"operation-input": {}}}, what
        return
    assert arguments is not None
    again = {
        each.name: encode_vapi(each.type, arguments[each.name]) for each in operation.parameters
    }
    wanted = plain_vapi(given["STRUCTURE"]["operation-input"])
    assert ordered(plain_vapi(again)) == ordered(wanted), what


def plain_vapi(value: Any) -> Any:
    """Remove unset values from wrapped JSON."""
    if isinstance(value, dict):
        made = {name: plain_vapi(each) for name, each in value.items()}
        if set(made) == {"OPTIONAL"} and is_nothing(made["OPTIONAL"]):
            return None
        return {name: each for name, each in made.items() if each is not None}
    if isinstance(value, list):
        return [plain_vapi(each) for each in value]
    return value


def is_nothing(value: Any) -> bool:
    if isinstance(value, dict) and set(value) == {"STRUCTURE"}:
        (inner,) = value["STRUCTURE"].values()
        return not inner
    return value is None or value in ("", [], {})


@pytest.mark.parametrize("prefix", ["/api", "/rest"])
@pytest.mark.parametrize("name", [each for each in NAMES if not each.startswith("session")])
async def test_rest(edge: Edge, name: str, prefix: str) -> None:
    """The same requests in REST: body, query and headers."""
    operation, request = recorded(name)
    arguments = arguments_of(operation, request)
    method, path, query, body = rest_request(operation, arguments, wrapped=prefix == "/rest")
    headers = {**await edge.headers(), "content-type": "application/json"}
    for what, document in mutations(body) if body else ():
        reply = await edge.client.request(
            method, prefix + path, params=query, content=written(document), headers=headers
        )
        arguments_read = await judged(edge, operation, reply, prefix, what)
        if arguments_read is not None:
            types = {each.name: descriptor(each.type) for each in operation.body_parameters}
            named = (
                document if prefix == "/rest" or not operation.body_is_spec else {"spec": document}
            )
            wanted = ordered(fields_set(types, named))
            found = said_again(operation, arguments_read)
            assert {n: found[n] for n in types if n in found} == wanted, what


async def judged(
    edge: Edge, operation: Operation, reply: httpx2.Response, prefix: str, what: str
) -> Mapping[str, Any] | None:
    """Return the arguments of an accepted request; check that a refusal is a standard error."""
    arguments = await reached(edge)
    if reply.status_code < 300:
        assert arguments is not None, what
        return arguments
    assert arguments is None, what
    assert reply.headers["content-type"] == "application/json", what
    body = reply.json()
    error = decode_error_rest(body["value"] if prefix == "/rest" else body)
    statuses = LEGACY_STATUS if prefix == "/rest" else STATUS
    assert reply.status_code == statuses[error.error_type], what
    if error.error_type is not ErrorType.OPERATION_NOT_FOUND:
        declared(operation, error)
    return None


@pytest.mark.parametrize("prefix", ["/api", "/rest"])
@pytest.mark.parametrize("name", [each for each in NAMES if not each.startswith("session")])
async def test_queries(edge: Edge, name: str, prefix: str) -> None:
    """The parameters that select the operation, and its own."""
    operation, request = recorded(name)
    arguments = arguments_of(operation, request)
    method, path, query, body = rest_request(operation, arguments, wrapped=prefix == "/rest")
    headers = {**await edge.headers(), "content-type": "application/json"}
    for what, pairs in of_pairs(query):
        reply = await edge.client.request(
            method,
            prefix + path,
            params=httpx2.QueryParams(tuple(pairs)),
            content=written(body),
            headers=headers,
        )
        taken = await judged(edge, operation, reply, prefix, what)
        if taken is not None:
            verbs, rest = meant(pairs)
            assert verbs == meant(query)[0], what
            for parameter in operation.query_parameters:
                said = said_again(operation, taken).get(parameter.name, {})
                assert {name: str(value).lower() for name, value in said.items()} == rest, what


def meant(pairs: list[tuple[str, str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Return which operation a query selects, and its other parameters; empty means unset."""
    texts = {name: text.lower() for name, text in pairs if text}
    verbs = {name: texts.pop(name) for name in VERBS if name in texts}
    return verbs, texts


def of_pairs(query: list[tuple[str, str]]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Return each query with one change."""
    for at, (name, text) in enumerate(query):
        before, after = query[:at], query[at + 1 :]
        yield f"{name} dropped", before + after
        yield f"{name} twice", [*query, (name, text)]
        for other in ("", "1", "text", "TRUE", "false", "x" * 6000, text + " ", text.upper()):
            yield f"{name} = {other[:20]}", [*before, (name, other), *after]
    for name, text in (("unknown", "1"), ("action", "x"), ("vmw-task", "true"), ("vmw-task", "1")):
        yield f"and {name}={text}", [*query, (name, text)]
    for name in ("~method", "~action", "filter.names.1", "Action", "ACTION"):
        yield f"and {name}", [*query, (name, "DELETE")]


@pytest.mark.parametrize("prefix", ["/api", "/rest"])
async def test_headers(edge: Edge, prefix: str) -> None:
    """Of a call that starts a task: each header as recorded, with one change."""
    operation, request = recorded("redeploy_task.ipv4")
    arguments = arguments_of(operation, request)
    method, path, query, body = rest_request(operation, arguments, wrapped=prefix == "/rest")
    head = (WIRE / "redeploy_task.ipv4.request.http").read_bytes().partition(b"\n\n")[0].decode()
    lines = [line.strip().partition(": ") for line in head.splitlines()[1:] if line.strip()]
    known = {name.lower(): text for name, _, text in lines if name}
    own: dict[str, str] = {
        name: known[name] for name in ("content-type", "accept", "user-agent") if name in known
    }
    own |= {**await edge.headers(), "content-encoding": "identity"}
    deciding = {SESSION, "content-type", "content-encoding"}
    for what, pairs in of_headers(own):
        reply = await edge.client.request(
            method, prefix + path, params=query, content=written(body), headers=pairs
        )
        taken = await judged(edge, operation, reply, prefix, what)
        if taken is not None:
            assert said_again(operation, taken) == said_again(operation, arguments), what
            name = what.partition(" ")[0]
            assert name not in deciding or may_be_taken(name, pairs, own[name]), what


def may_be_taken(name: str, pairs: list[tuple[str, str]], own: str) -> bool:
    """Return whether a significant header still means the same. Without a type it is JSON."""
    texts = [text for other, text in pairs if other == name]
    if name == SESSION:
        return texts == [own]
    return len(texts) < 2 and all(text in {own, ""} or text.lower() == own for text in texts)


def of_headers(own: dict[str, str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Return the headers with one of them changed."""
    for name, text in own.items():
        others = [(other, value) for other, value in own.items() if other != name]
        yield f"{name} dropped", others
        yield f"{name} twice", [*others, (name, text), (name, text)]
        for other in ("", "text", "1", "x" * 6000, text + "x", text.upper(), f"{text}, {text}"):
            yield f"{name} = {other[:20]}", [*others, (name, other)]
