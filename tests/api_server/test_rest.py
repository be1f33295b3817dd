"""REST and legacy REST: paths, bodies and the form of errors."""

import gzip
from typing import Any

import msgspec
import pytest
from tests.support.edge import ADMINISTRATOR, PASSWORD, READER, Edge
from tests.support.jsonrpc import USER, invocation

from openvcha.api.errors import LEGACY_STATUS, STATUS, ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import CertificateInfo
from openvcha.api_server.http import ANONYMOUS_BODY, AUTHENTICATED_BODY, RETRY_SECONDS
from openvcha.api_server.pipeline import STORE_FULL_RETRY_SECONDS
from openvcha.store.errors import (
    OutcomeUnknown,
    RecordInvalid,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

BASIC = (ADMINISTRATOR, PASSWORD)
REDEPLOY = "/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true"
MINIMAL = {"placement": {"name": "passive-2", "folder": "group-v3"}}
OPERATIONS_GET = "com.vmware.vcenter.vcha.operations.get"


@pytest.mark.parametrize("prefix", ["/api", "/rest"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("GET", "/"),
        ("GET", "/vcenter/vcha/cluster/passive/"),
        ("POST", "/vcenter/vcha/cluster/passive"),
        ("POST", "/vcenter/vcha/cluster/passive?action=redeploy"),
        ("POST", "/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=false"),
        ("POST", "/vcenter/vcha/cluster/passive?action=unknown&vmw-task=true"),
        ("POST", "/vcenter/vcha/cluster/passive?action=check&vmw-task=true"),
        ("POST", "/vcenter/vcha/cluster/passive?vmw-task=true"),
        ("PUT", "/vcenter/vcha/cluster/mode"),
        ("DELETE", "/vcenter/vcha/cluster/mode"),
        ("PATCH", "/vcenter/vcha/operations"),
        ("GET", "/cis/tasks/"),
        ("GET", "/cis/tasks/a/b"),
        ("POST", "/cis/tasks/a?action=start"),
        ("BREW", "/vcenter/vcha/operations"),
    ],
)
async def test_what_does_not_exist_is_404_even_without_a_session(
    edge: Edge, prefix: str, method: str, path: str
) -> None:
    """An unknown path, method, action, or a task without vmw-task=true."""
    response = await edge.client.request(method, prefix + path)
    body = response.json() if prefix == "/api" else response.json()["value"]
    assert (response.status_code, body["error_type"]) == (404, "OPERATION_NOT_FOUND")
    assert response.headers["content-type"] == "application/json"


async def test_unknown_paths_have_the_known_message(edge: Edge) -> None:
    """Clients know httpNotFound; every path uses it, in its API's form."""
    for path in ("/api/nothing", "/nothing", "/", "/openapi.json/x"):
        body = (await edge.client.get(path)).json()
        assert body["messages"][0]["id"] == "com.vmware.vapi.rest.httpNotFound"
    legacy = (await edge.client.get("/rest/nothing")).json()
    assert legacy["type"] == "com.vmware.vapi.std.errors.operation_not_found"
    assert (await edge.client.get("/api")).status_code == 404
    assert (await edge.client.post("/rest")).status_code == 404
    assert (await edge.client.post("/openapi.json")).status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        "vmw-task=true&action=redeploy",
        "action=redeploy&vmw-task=True",
        "~action=redeploy&vmw-task=TRUE",
    ],
)
async def test_the_verbs_come_in_any_order_and_case_of_true(edge: Edge, query: str) -> None:
    """Clients order and spell the query in different ways."""
    response = await edge.client.post(
        f"/api/vcenter/vcha/cluster/passive?{query}", json=MINIMAL, auth=BASIC
    )
    assert (response.status_code, response.json()) == (202, "com.vmware.cis.TASK-1")


@pytest.mark.parametrize("task", ["8a3e:com.vmware.vcenter", "8a3e%3Acom.vmware.vcenter"])
async def test_the_colon_of_a_task_id_may_be_quoted(edge: Edge, task: str) -> None:
    """Some clients percent-encode it, some do not."""
    response = await edge.client.get(f"/api/cis/tasks/{task}", auth=BASIC)
    assert response.status_code == 200
    assert edge.dispatcher.calls[0][1]["task"] == "8a3e:com.vmware.vcenter"


async def test_old_scripts_post_nothing_or_an_empty_object(edge: Edge) -> None:
    """`get` has an optional body, with or without a content type."""
    path = "/vcenter/vcha/cluster?action=get"
    bodies: list[dict[str, Any]] = [{}, {"content": b""}, {"content": b"{}"}]
    for body in [*bodies, {"json": {}}, {"json": {"partial": None}}]:
        for prefix in ("/api", "/rest"):
            response = await edge.client.post(prefix + path, auth=BASIC, **body)
            assert response.status_code == 200
    assert {arguments["partial"] for _, arguments, _ in edge.dispatcher.calls} == {None}


@pytest.mark.parametrize(
    ("content", "error_type", "message_id"),
    [
        (b"", "INVALID_ARGUMENT", "vapi.data.structure.field.invalid"),
        (b"{}", "INVALID_ARGUMENT", "vapi.data.structure.field.invalid"),
        (b"{", "INVALID_REQUEST", "com.vmware.vcenter.vcha.decode.syntax"),
        (b"\xff", "INVALID_REQUEST", "com.vmware.vcenter.vcha.decode.encoding"),
        (b'{"nonsense": 1}', "UNEXPECTED_INPUT", "vapi.data.structure.field.unexpected"),
        (
            b" " * AUTHENTICATED_BODY.max_bytes + b"{}",
            "INVALID_REQUEST",
            "com.vmware.vcenter.vcha.decode.too.large",
        ),
    ],
)
async def test_a_bad_body_is_400_and_nothing_happened(
    edge: Edge, content: bytes, error_type: str, message_id: str
) -> None:
    """Each with its standard error, in both forms."""
    headers = {"content-type": "application/json"}
    for prefix in ("/api", "/rest"):
        response = await edge.client.post(
            prefix + REDEPLOY, content=content, headers=headers, auth=BASIC
        )
        body = response.json() if prefix == "/api" else response.json()["value"]
        assert (response.status_code, body["error_type"]) == (400, error_type)
        assert body["messages"][0]["id"] == message_id
    assert edge.dispatcher.calls == []


async def test_a_body_in_pieces_is_measured_too(edge: Edge) -> None:
    """Without a content length the limit applies while the body arrives."""

    async def pieces() -> Any:
        for _ in range(20):
            yield b" " * 65536

    response = await edge.client.post(f"/api{REDEPLOY}", content=pieces(), auth=BASIC)
    assert response.status_code == 400
    assert response.json()["messages"][0]["id"].endswith("decode.too.large")
    assert response.headers["connection"] == "close"


async def test_less_is_read_where_nobody_is_known(edge: Edge) -> None:
    """Joining needs no session, so its body has a lower limit."""
    path, body = "/openvcha/joins", b" " * ANONYMOUS_BODY.max_bytes + b"{}"
    headers = {"content-type": "application/json"}
    for prefix in ("/api", "/rest"):
        response = await edge.client.post(prefix + path, content=body, headers=headers)
        assert (response.status_code, response.headers["connection"]) == (400, "close")
        assert "decode.too.large" in response.text
        assert str(ANONYMOUS_BODY.max_bytes) in response.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "x", ""])
async def test_another_content_type_is_400(edge: Edge, kind: str) -> None:
    """A body must be JSON; a charset, or no type at all, is accepted."""
    json = b'{"placement": {"name": "n", "folder": "f"}}'
    response = await edge.client.post(
        f"/api{REDEPLOY}", content=json, headers={"content-type": kind}, auth=BASIC
    )
    assert (response.status_code, response.json()["error_type"]) == (400, "INVALID_REQUEST")
    for good in ({"content-type": "Application/JSON; charset=UTF-8"}, {}):
        response = await edge.client.post(f"/api{REDEPLOY}", content=json, headers=good, auth=BASIC)
        assert response.status_code == 202


@pytest.mark.parametrize("error_type", list(ErrorType))
async def test_each_error_has_its_status_and_form(edge: Edge, error_type: ErrorType) -> None:
    """As in the table of errors, on /api and on /rest."""
    data = CertificateInfo(ssl_thumbprint="AA:BB", ssl_certificate="PEM")
    edge.dispatcher.answers[OPERATIONS_GET] = ApiError(
        error_type, message("task.canceled"), message("cluster.not.configured"), data=data
    )
    rest = await edge.client.get("/api/vcenter/vcha/operations", auth=BASIC)
    legacy = await edge.client.get("/rest/vcenter/vcha/operations", auth=BASIC)
    assert rest.status_code == STATUS[error_type]
    assert legacy.status_code == LEGACY_STATUS[error_type]
    assert rest.json()["error_type"] == error_type.value
    assert rest.json()["data"] == {"ssl_thumbprint": "AA:BB", "ssl_certificate": "PEM"}
    assert legacy.json() == {"type": error_type.structure, "value": rest.json()}
    assert ("www-authenticate" in rest.headers) == (error_type is ErrorType.UNAUTHENTICATED)
    passes = error_type is ErrorType.SERVICE_UNAVAILABLE
    assert ("retry-after" in rest.headers, "retry-after" in legacy.headers) == (passes, passes)


@pytest.mark.parametrize(
    ("failure", "text", "after"),
    [
        (StoreUnavailable("no quorum at etcd-1"), "store.unavailable", RETRY_SECONDS),
        (OutcomeUnknown("connection lost"), "store.outcome.unknown", RETRY_SECONDS),
        (StoreFull("no space"), "store.is.full", STORE_FULL_RETRY_SECONDS),
    ],
)
async def test_a_lost_store_is_503(edge: Edge, failure: Exception, text: str, after: int) -> None:
    """Callers see that it is transient, when to retry, and whether the change may be done."""
    edge.dispatcher.answers[OPERATIONS_GET] = failure
    response = await edge.client.get("/api/vcenter/vcha/operations", auth=BASIC)
    assert (response.status_code, response.json()["error_type"]) == (503, "SERVICE_UNAVAILABLE")
    assert response.json()["messages"][0]["id"].endswith(text)
    assert response.headers["retry-after"] == str(after)
    called = await edge.client.post("/api", json=invocation(security=USER))
    assert (called.status_code, called.headers["retry-after"]) == (200, str(after))


@pytest.mark.parametrize(
    ("operation", "path", "error_type"),
    [
        (OPERATIONS_GET, "/vcenter/vcha/operations", "ERROR"),
        ("com.vmware.vcenter.VM.list", "/vcenter/vm", "SERVICE_UNAVAILABLE"),
    ],
)
async def test_a_store_that_refuses_is_an_error_which_the_operation_declares(
    edge: Edge, logged: list[Any], operation: str, path: str, error_type: str
) -> None:
    """The store's own message is passed on, except one that may quote a record."""
    for failure, said in (
        (StoreError("etcdserver: mvcc: database space exceeded", 8), "database space exceeded"),
        (RecordInvalid("/openvcha/cluster", "Invalid enum value 'geheim'"), "operation-0815"),
    ):
        edge.dispatcher.answers[operation] = failure
        response = await edge.client.get(f"/api{path}", auth=BASIC)
        assert response.json()["error_type"] == error_type
        assert said in response.json()["messages"][0]["default_message"]
        assert "geheim" not in response.text
    events = [event for event in logged if event["event"] == "store refused"]
    assert [event["operation_id"] for event in events] == ["operation-0815"] * 2


async def test_the_reader_may_look_but_not_change(edge: Edge) -> None:
    """System.Read is enough for reads and for a partial `get`, not for a full one."""
    reader = (READER, PASSWORD)
    get = "/api/vcenter/vcha/cluster?action=get"
    assert (await edge.client.get("/api/vcenter/vcha/operations", auth=reader)).status_code == 200
    assert (await edge.client.post(get, json={"partial": True}, auth=reader)).status_code == 200
    for body in ({}, {"partial": False}):
        assert (await edge.client.post(get, json=body, auth=reader)).status_code == 403
    response = await edge.client.post(f"/api{REDEPLOY}", json=MINIMAL, auth=reader)
    assert response.status_code == 403
    assert response.json()["messages"][0]["id"] == "vapi.security.authorization.invalid"
    assert response.json()["messages"][0]["args"] == ["Global.VCServer"]


async def test_options_and_head(edge: Edge) -> None:
    """OPTIONS lists the methods; HEAD is a GET."""
    response = await edge.client.options("/api/session")
    assert (response.status_code, response.headers["allow"]) == (
        204,
        "DELETE, GET, HEAD, OPTIONS, POST",
    )
    assert (await edge.client.options("/api/nothing")).status_code == 404
    assert (await edge.client.head("/api/vcenter/vcha/operations")).status_code == 401
    head = await edge.client.head("/api/vcenter/vcha/operations", auth=BASIC)
    assert head.status_code == 200


async def test_legacy_filters_have_their_prefix(edge: Edge) -> None:
    """Old clients write filter.names.1."""
    response = await edge.client.get(
        "/rest/vcenter/vm", params={"filter.names.1": "a", "filter.names.2": "b"}, auth=BASIC
    )
    assert response.status_code == 200
    assert edge.dispatcher.calls[0][1]["filter"].names == frozenset({"a", "b"})


def _gzipped(body: bytes) -> dict[str, Any]:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    return {"content": gzip.compress(body), "headers": headers}


async def test_a_packed_body_is_unpacked(edge: Edge) -> None:
    """As some clients compress their requests."""
    for prefix in ("/api", "/rest"):
        body = MINIMAL if prefix == "/api" else {"spec": MINIMAL}
        packed = _gzipped(msgspec.json.encode(body))
        response = await edge.client.post(prefix + REDEPLOY, auth=BASIC, **packed)
        assert response.status_code < 300, response.text
    plain = await edge.client.post("/api" + REDEPLOY, auth=BASIC, json=MINIMAL)
    assert plain.status_code == 202
    first, *others = [arguments for _, arguments, _ in edge.dispatcher.calls]
    assert others == [first, first]


@pytest.mark.parametrize(
    ("encoding", "content", "said"),
    [
        ("gzip", gzip.compress(b" " * (64 << 20)), "decode.too.large"),
        ("gzip", gzip.compress(b"{}")[:-5], "content.gzip"),
        ("gzip", gzip.compress(b"{}") + b"more", "content.gzip"),
        ("gzip", b"{}", "content.gzip"),
        ("br", b"{}", "content.encoding"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}")), "content.encoding"),
        ("x" * 5000, b"{}", "content.encoding"),
    ],
    ids=["too large", "cut", "more", "none", "brotli", "twice", "unknown"],
)
async def test_what_cannot_be_unpacked_is_told(
    edge: Edge, encoding: str, content: bytes, said: str
) -> None:
    """Including a bomb, of which no more than a request's limit is unpacked."""
    headers = {"content-type": "application/json", "content-encoding": encoding}
    response = await edge.client.post(
        "/api" + REDEPLOY, content=content, headers=headers, auth=BASIC
    )
    (found,) = response.json()["messages"]
    assert (response.status_code, found["id"].partition("vcha.")[2]) == (400, said)
    assert len(response.content) < 1000
    assert edge.dispatcher.calls == []


@pytest.mark.parametrize(
    ("method", "path", "there", "hint"),
    [
        ("PUT", "/vcenter/vcha/cluster/mode", "PUT /vcenter/vcha/cluster/mode?vmw-task=true", True),
        (
            "POST",
            "/vcenter/vcha/cluster?action=failover_vcha",
            "POST /vcenter/vcha/cluster?action=failover&vmw-task=true",
            False,
        ),
        ("POST", "/vcenter/vcha/cluster?action=failover", "action=failover&vmw-task=true", True),
        ("PATCH", "/vcenter/vcha/cluster/mode", "GET /vcenter/vcha/cluster/mode", False),
    ],
)
async def test_an_unknown_operation_names_what_there_is(
    edge: Edge, method: str, path: str, there: str, hint: bool
) -> None:
    """At the same path; including a missing flag, if that is all."""
    for prefix in ("/api", "/rest"):
        response = await edge.client.request(method, prefix + path, auth=BASIC)
        body = response.json() if prefix == "/api" else response.json()["value"]
        assert (response.status_code, body["error_type"]) == (404, "OPERATION_NOT_FOUND")
        first, *more = (said["default_message"] for said in body["messages"])
        assert there in first
        assert any("vmw-task=true" in said for said in more) is hint


async def test_what_is_quoted_of_an_unknown_operation_is_bounded(edge: Edge) -> None:
    """Whatever a stranger sends."""
    action = "x" * 5000
    response = await edge.client.post(f"/api/vcenter/vcha/cluster?action={action}")
    assert response.status_code == 404
    assert len(response.content) < 2500
