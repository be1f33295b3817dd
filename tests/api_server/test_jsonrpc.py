"""vAPI JSON-RPC: the envelope, the security context, and the SDK's recorded requests."""

import gzip
import json
import threading
from typing import Any

import pytest
from tests.support.edge import ADMINISTRATOR, PASSWORD, WIRE, Edge
from tests.support.jsonrpc import SCHEMES, USER, invocation

from openvcha.api.codec.decode import parse_json
from openvcha.api_server.http import ANONYMOUS_BODY, AUTHENTICATED_BODY
from openvcha.store.errors import StoreUnavailable

REQUESTS = sorted(path.name for path in WIRE.glob("*.request.json"))


async def post(edge: Edge, request: Any, **headers: str) -> Any:
    """Return the reply to a request, which is always HTTP 200 with exact JSON."""
    content = request if isinstance(request, bytes) else json.dumps(request).encode()
    response = await edge.client.post(
        "/api", content=content, headers={"content-type": "application/json", **headers}
    )
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    return response.json()


def error_of(reply: Any) -> str:
    ((name, _),) = reply["result"]["error"]["ERROR"].items()
    return str(name).removeprefix("com.vmware.vapi.std.errors.")


def shape(value: Any) -> Any:
    """Return the wrappers and names of a vAPI value, without its content."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items() if key != "OPTIONAL"}
    return None


@pytest.mark.parametrize("name", REQUESTS)
async def test_every_recorded_request_of_the_sdk_is_understood(edge: Edge, name: str) -> None:
    """It reaches its operation; the answer has the structure that the SDK accepted."""
    request = json.loads((WIRE / name).read_bytes())
    if (context := request["params"]["ctx"].get("securityCtx")) and "sessionId" in context:
        context["sessionId"] = await edge.token()
    elif name == "session.create.request.json":
        context |= {"userName": ADMINISTRATOR, "password": PASSWORD}
    reply = await post(edge, request)
    assert (reply["jsonrpc"], reply["id"]) == ("2.0", request["id"])
    if name == "session.create.err_unauthenticated.request.json":
        assert error_of(reply) == "unauthenticated"
        return
    recorded = json.loads((WIRE / name.replace("request", "reply")).read_bytes())
    assert list(reply["result"]) == ["output"]
    if "output" in recorded["result"] and isinstance(recorded["result"]["output"], dict):
        wanted, got = recorded["result"]["output"], reply["result"]["output"]
        assert wanted.keys() == got.keys()
        if "STRUCTURE" in wanted:
            assert shape(wanted["STRUCTURE"]).keys() == got["STRUCTURE"].keys()
            ((_, fields),) = wanted["STRUCTURE"].items()
            ((_, mine),) = got["STRUCTURE"].items()
            assert fields.keys() <= mine.keys()


async def test_the_recorded_bytes_of_the_http_request(edge: Edge) -> None:
    """The request with its headers, as the SDK sent it."""
    head, _, body = (WIRE / "redeploy_task.ipv4.request.http").read_bytes().partition(b"\r\n\r\n")
    if not body:
        head, _, body = head.partition(b"\n\n")
    request = json.loads(body)
    request["params"]["ctx"]["securityCtx"]["sessionId"] = await edge.token()
    skipped = ("host", "content-length", "connection", "accept-encoding")
    lines = (line.partition(": ") for line in head.decode().splitlines()[1:])
    headers = {name.lower(): value for name, _, value in lines if name.lower() not in skipped}
    reply = await post(edge, request, **headers)
    assert reply["result"] == {"output": "com.vmware.cis.TASK-1"}
    spec = edge.dispatcher.calls[0][1]["spec"]
    assert spec.vc_spec.active_location.password.reveal() == "secret"


@pytest.mark.parametrize(
    ("request_", "code", "request_id"),
    [
        (b"", -32700, None),
        (b"{", -32700, None),
        (b"\xff\xfe", -32700, None),
        (b'{"id": "1", "id": "2"}', -32700, None),
        (b"[" * 100 + b"]" * 100, -32700, None),
        (b" " * ANONYMOUS_BODY.max_bytes + b"{}", -32600, None),
        ([], -32600, None),
        ("text", -32600, None),
        ([invocation()], -32600, None),
        ({}, -32600, None),
        ({**invocation(), "id": None}, -32600, None),
        ({**invocation(), "id": True}, -32600, None),
        ({**invocation(), "id": ["1"]}, -32600, None),
        ({**invocation(), "jsonrpc": "1.0"}, -32600, "17"),
        ({**invocation(), "method": 1}, -32600, "17"),
        ({**invocation(), "method": "get"}, -32601, "17"),
        ({**invocation(), "params": None}, -32602, "17"),
        ({**invocation(), "params": [1]}, -32602, "17"),
        ({**invocation(), "params": {}}, -32602, "17"),
        ({**invocation(), "params": {**invocation()["params"], "serviceId": 1}}, -32602, "17"),
        ({**invocation(), "params": {**invocation()["params"], "input": None}}, -32602, "17"),
        ({**invocation(), "params": {**invocation()["params"], "ctx": "x"}}, -32602, "17"),
        ({**invocation(), "params": {**invocation()["params"], "ctx": ""}}, -32602, "17"),
        ({**invocation(), "params": {**invocation()["params"], "ctx": []}}, -32602, "17"),
        (
            {**invocation(), "params": {**invocation()["params"], "ctx": {"appCtx": 0}}},
            -32602,
            "17",
        ),
        (invocation(security=False), -32602, "17"),
        (invocation(security=""), -32602, "17"),
        (invocation(security="x"), -32602, "17"),
        (invocation(security={"schemeId": 5}), -32602, "17"),
        (invocation(security={"schemeId": f"{SCHEMES}session_id"}), -32602, "17"),
        (invocation(security={**USER, "password": None}), -32602, "17"),
    ],
)
async def test_a_malformed_request_gets_its_json_rpc_error(
    edge: Edge, request_: Any, code: int, request_id: Any
) -> None:
    """Never a dropped connection, and no HTTP status other than 200."""
    reply = await post(edge, request_)
    assert (reply["error"]["code"], reply["id"]) == (code, request_id)
    assert "result" not in reply
    assert edge.dispatcher.calls == []


async def test_a_request_of_another_content_type_is_invalid(edge: Edge) -> None:
    """POST /api accepts JSON only."""
    reply = await post(edge, invocation(), **{"content-type": "text/xml"})
    assert reply["error"]["code"] == -32600


def padded(request: Any, size: int) -> bytes:
    """Return a request with trailing blanks, which mean nothing."""
    return json.dumps(request).encode().ljust(size)


async def test_more_is_read_of_who_has_a_session(edge: Edge) -> None:
    """By the header, as the body's content is only known after reading it."""
    header = await edge.headers()
    session = {"schemeId": f"{SCHEMES}session_id", "sessionId": header["vmware-api-session-id"]}
    asked = invocation(security=session)
    assert "result" in await post(edge, padded(asked, ANONYMOUS_BODY.max_bytes))
    assert "result" in await post(edge, padded(asked, AUTHENTICATED_BODY.max_bytes), **header)
    for headers in ({}, {"vmware-api-session-id": "f" * 64}, {"vmware-api-session-id": "x"}):
        refused = (await post(edge, padded(asked, ANONYMOUS_BODY.max_bytes + 1), **headers))[
            "error"
        ]
        assert refused["code"] == -32600
        assert str(ANONYMOUS_BODY.max_bytes) in refused["message"]
        assert "vmware-api-session-id" in refused["message"]
    too_much = (await post(edge, padded(asked, AUTHENTICATED_BODY.max_bytes + 1), **header))[
        "error"
    ]
    assert str(AUTHENTICATED_BODY.max_bytes) in too_much["message"]


async def test_a_packed_body_is_measured_as_it_is_unpacked(edge: Edge) -> None:
    """In both directions."""
    header, packed = await edge.headers(), {"content-encoding": "gzip"}
    body = gzip.compress(padded(invocation(), AUTHENTICATED_BODY.max_bytes))
    assert len(body) < ANONYMOUS_BODY.max_bytes
    assert "result" in await post(edge, body, **header, **packed)
    assert str(ANONYMOUS_BODY.max_bytes) in (await post(edge, body, **packed))["error"]["message"]


async def test_a_large_body_waits_for_the_store(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose session it is is unknown: that is not the request's fault."""

    async def away(*_: Any) -> Any:
        raise StoreUnavailable("no member answers")

    monkeypatch.setattr(edge.store, "get", away)
    monkeypatch.setattr(edge.store, "get_many", away)
    body = padded(invocation(), ANONYMOUS_BODY.max_bytes + 1)
    headers = {"vmware-api-session-id": "f" * 64, "content-type": "application/json"}
    response = await edge.client.post("/api", content=body, headers=headers)
    assert response.json()["error"]["code"] == -32000
    assert {"retry-after", "connection"} <= response.headers.keys()


async def test_a_large_body_is_parsed_apart(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a separate thread, so that other requests are answered meanwhile."""
    where = list[bool]()

    def parse(body: bytes) -> Any:
        where.append(threading.current_thread() is threading.main_thread())
        return parse_json(body)

    monkeypatch.setattr("openvcha.api_server.jsonrpc.parse_json", parse)
    header = await edge.headers()
    for size in (ANONYMOUS_BODY.max_bytes, ANONYMOUS_BODY.max_bytes + 1):
        assert "result" in await post(edge, padded(invocation(), size), **header)
    assert where == [True, False]


@pytest.mark.parametrize("request_id", ["0", "", "äöü", 5, 2**60])
async def test_the_id_comes_back_as_it_went(edge: Edge, request_id: Any) -> None:
    """With the same type, too."""
    reply = await post(edge, {**invocation(security=USER), "id": request_id})
    assert reply["id"] == request_id
    assert type(reply["id"]) is type(request_id)


async def test_unknown_services_and_operations_are_not_found_without_a_session(edge: Edge) -> None:
    """With vAPI's own messages; a task's plain name is not an operation."""
    cases = [
        ("com.vmware.nothing", "get", "vapi.method.input.invalid.interface"),
        ("com.vmware.vcenter.vcha.operations", "put", "vapi.method.input.invalid.method"),
        ("com.vmware.vcenter.vcha.cluster.passive", "redeploy", "vapi.method.input.invalid.method"),
    ]
    for service, operation, text in cases:
        reply = await post(edge, invocation(service, operation))
        assert error_of(reply) == "operation_not_found"
        assert text in json.dumps(reply)


@pytest.mark.parametrize(
    "security",
    [None, {}, {"schemeId": None}, {"schemeId": f"{SCHEMES}no_authentication"}],
)
async def test_without_a_security_context_the_headers_serve(edge: Edge, security: Any) -> None:
    """The session's header, or Basic; without both it is UNAUTHENTICATED."""
    reply = await post(edge, invocation(security=security))
    assert error_of(reply) == "unauthenticated"
    reply = await post(edge, invocation(security=security), **(await edge.headers()))
    assert "output" in reply["result"]


async def test_an_unknown_scheme_is_unauthenticated(edge: Edge) -> None:
    """SAML is not supported, and does not fall back to the headers."""
    security = {"schemeId": f"{SCHEMES}saml_bearer_token", "samlToken": "x"}
    reply = await post(edge, invocation(security=security), **(await edge.headers()))
    assert error_of(reply) == "unauthenticated"


async def test_user_and_password_serve_for_any_operation(edge: Edge) -> None:
    """Not only for logging in."""
    reply = await post(edge, invocation(security=USER))
    assert "output" in reply["result"]
    reply = await post(edge, invocation(security={**USER, "password": "wrong-password"}))
    assert error_of(reply) == "unauthenticated"


async def test_a_session_from_login_to_logout(edge: Edge) -> None:
    """create returns a secret, and the header; get and delete use the session; then it is over."""
    service = "com.vmware.cis.session"
    response = await edge.client.post("/api", json=invocation(service, "create", USER))
    token = response.json()["result"]["output"]["SECRET"]
    assert response.headers["vmware-api-session-id"] == token
    security = {"schemeId": f"{SCHEMES}session_id", "sessionId": token}
    got = await post(edge, invocation(service, "get", security))
    info = got["result"]["output"]["STRUCTURE"]["com.vmware.cis.session.info"]
    assert info["user"] == ADMINISTRATOR
    deleted = await post(edge, invocation(service, "delete", security))
    assert deleted["result"] == {"output": None}
    assert error_of(await post(edge, invocation(service, "get", security))) == "unauthenticated"


async def test_input_is_decoded_strictly(edge: Edge) -> None:
    """An unknown parameter is UNEXPECTED_INPUT, in the method's own result."""
    given = {"STRUCTURE": {"operation-input": {"nonsense": 1}}}
    reply = await post(edge, invocation(security=USER, given=given))
    assert error_of(reply) == "unexpected_input"
    assert edge.dispatcher.calls == []
