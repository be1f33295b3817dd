"""Every operation answers in every protocol, with the same arguments and result."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.edge import ADMINISTRATOR, Edge, example
from tests.support.every_operation import arguments_of, call_rest, call_rpc, rest_request

from openvcha.api.codec.encode import encode_rest, encode_vapi
from openvcha.api.operations import OPERATIONS, Operation
from openvcha.api_server.auth.credentials import ANONYMOUS

OF_THE_DISPATCHER = [each for each in OPERATIONS if each.service != "com.vmware.cis.session"]
AVAILABLE = [each for each in OF_THE_DISPATCHER if each.available]
FOR_USERS = [each for each in OF_THE_DISPATCHER if each.authenticated]


def by_id(operation: Operation) -> str:
    return operation.id


def caller_of(operation: Operation) -> str:
    """Return the caller's identity: none where no login is needed."""
    return ADMINISTRATOR if operation.authenticated else ANONYMOUS


def received(edge: Edge) -> tuple[str, Mapping[str, Any], str]:
    ((operation, arguments, caller),) = edge.dispatcher.calls
    return operation.id, arguments, caller.user


@pytest.mark.parametrize("operation", AVAILABLE, ids=by_id)
async def test_rest_calls_it_and_answers_its_result(edge: Edge, operation: Operation) -> None:
    """/api: the dispatcher gets the arguments; status and body are as in the table."""
    response = await call_rest(edge, operation, prefix="/api")
    assert received(edge) == (operation.id, arguments_of(operation), caller_of(operation))
    assert response.status_code == operation.status
    if operation.reply is None:
        assert response.content == b""
    else:
        assert response.headers["content-type"] == "application/json"
        assert response.json() == encode_rest(operation.reply, example(operation.reply))


@pytest.mark.parametrize("operation", AVAILABLE, ids=by_id)
async def test_legacy_rest_calls_it_and_answers_its_result(
    edge: Edge, operation: Operation
) -> None:
    """/rest: the same, with bodies wrapped, and always 200."""
    response = await call_rest(edge, operation, prefix="/rest")
    assert received(edge) == (operation.id, arguments_of(operation), caller_of(operation))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"value": encode_rest(operation.reply, example(operation.reply))}


@pytest.mark.parametrize("operation", AVAILABLE, ids=by_id)
async def test_json_rpc_calls_it_and_answers_its_result(edge: Edge, operation: Operation) -> None:
    """JSON-RPC: the same, wrapped by vAPI; the id comes back unchanged."""
    response = await call_rpc(edge, operation)
    assert received(edge) == (operation.id, arguments_of(operation), caller_of(operation))
    assert response.status_code == 200
    assert response.json() == {
        "jsonrpc": "2.0",
        "id": "7",
        "result": {"output": encode_vapi(operation.reply, example(operation.reply))},
    }


async def test_what_comes_later_says_so_in_every_protocol(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operation that is not available is UNSUPPORTED, and the dispatcher is not called."""
    operation = next(each for each in AVAILABLE if each.task)
    monkeypatch.setitem(vars(operation), "available", False)
    rest = await call_rest(edge, operation, prefix="/api")
    legacy = await call_rest(edge, operation, prefix="/rest")
    rpc = await call_rpc(edge, operation)
    assert (rest.status_code, rest.json()["error_type"]) == (400, "UNSUPPORTED")
    assert operation.id in rest.json()["messages"][0]["default_message"]
    assert legacy.json()["type"] == "com.vmware.vapi.std.errors.unsupported"
    assert list(rpc.json()["result"]["error"]["ERROR"]) == [
        "com.vmware.vapi.std.errors.unsupported"
    ]
    assert edge.dispatcher.calls == []


@pytest.mark.parametrize("operation", FOR_USERS, ids=by_id)
@pytest.mark.parametrize("prefix", ["/api", "/rest"])
async def test_each_needs_authentication_first(
    edge: Edge, operation: Operation, prefix: str
) -> None:
    """Without credentials it is 401, even when the body is invalid."""
    method, path, query, _ = rest_request(operation, arguments_of(operation), wrapped=False)
    response = await edge.client.request(
        method,
        prefix + path,
        params=[*query, ("rubbish", "1")],
        content=b"{",
        headers={"content-type": "text/x"},
    )
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Basic ")
    assert edge.dispatcher.calls == []


@pytest.mark.parametrize("operation", FOR_USERS, ids=by_id)
async def test_each_needs_its_privilege(edge: Edge, operation: Operation) -> None:
    """Without the privilege it is 403, even when the body is invalid."""
    method, path, query, _ = rest_request(operation, arguments_of(operation), wrapped=False)
    headers = await edge.headers("nobody@vsphere.local") | {"content-type": "application/json"}
    response = await edge.client.request(
        method, "/api" + path, params=query, content=b"{", headers=headers
    )
    assert (response.status_code, response.json()["error_type"]) == (403, "UNAUTHORIZED")
    assert edge.dispatcher.calls == []


async def test_who_needs_no_session_may_do_nothing_else(edge: Edge) -> None:
    """Without credentials it is carried out, by a caller without any privilege."""
    (operation,) = [each for each in OPERATIONS if not each.authenticated]
    method, path, query, body = rest_request(operation, arguments_of(operation), wrapped=False)
    response = await edge.client.request(method, "/api" + path, params=query, json=body)
    assert response.status_code == operation.status
    assert received(edge)[2] == ANONYMOUS
    assert operation.privilege is None
