"""Common properties of all answers: headers, forms of the target, and that they arrive."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from tests.support.edge import Edge, Served
from tests.support.raw_http import raw

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import AuditFilterSpec
from openvcha.api_server.connection_limits import CLIENT, ClientConnection, ConnectionLimiter
from openvcha.api_server.response import Response
from openvcha.api_server.server.middleware import (
    MAX_SOURCES,
    MAX_STRANGER_REQUESTS_PER_SECOND,
    STRANGER_REQUEST_BURST,
    EdgeMiddleware,
)

SECURITY = {"strict-transport-security": "max-age=31536000", "x-content-type-options": "nosniff"}
SESSION = "vmware-api-session-id"
LIST = "/api/cis/tasks?action=list"
REDEPLOY = "/api/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true"
LIMIT = 8192
"""Of the head, as ``served`` has it."""


async def answered(served: Served, *pieces: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """Send pieces, one packet each, and read one answer: its first line, headers and body."""
    async with raw(served) as (reader, writer), asyncio.timeout(60):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await one_answer(reader)


async def one_answer(reader: asyncio.StreamReader) -> tuple[bytes, dict[str, str], bytes]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    pairs = (line.decode().lower().partition(": ") for line in lines if line)
    headers = {name: value for name, _, value in pairs}
    return first, headers, await reader.readexactly(int(headers.get("content-length", 0)))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/vcenter/vcha/operations"),
        ("GET", "/rest/vcenter/vcha/operations"),
        ("GET", "/api/nothing"),
        ("GET", "/nothing"),
        ("GET", "/openapi.json"),
        ("OPTIONS", "/api/session"),
        ("POST", "/api"),
    ],
)
async def test_every_answer_has_what_browsers_need(edge: Edge, method: str, path: str) -> None:
    """Including refusals."""
    for headers in ({}, await edge.headers()):
        answer = await edge.client.request(method, path, headers=headers)
        assert SECURITY.items() <= dict(answer.headers).items()


async def test_so_has_what_is_no_http(served: Served) -> None:
    """The server answers it without calling the application."""
    first, headers, _ = await answered(served, b"nonsense\r\n\r\n")
    assert first == b"HTTP/1.1 400 Bad Request"
    assert SECURITY.items() <= headers.items()


async def test_a_failure_of_our_own_is_a_standard_error(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    """Wherever it occurs; its text goes to the log only."""

    def fails(*_: object) -> None:
        raise RuntimeError("geheim")

    monkeypatch.setattr("openvcha.api_server.rest.require_unambiguous", fails)
    answer = await edge.client.get("/api/vcenter/vcha/operations")
    assert (answer.status_code, answer.json()["error_type"]) == (500, "INTERNAL_SERVER_ERROR")
    assert "geheim" not in answer.text
    assert any(event["event"] == "internal error" for event in logged)


@pytest.mark.parametrize("target", [b"https://%s/api/session", b"HTTP://%s/api/session"])
async def test_a_whole_url_is_a_target(served: Served, target: bytes) -> None:
    """As for a proxy; servers must accept it."""
    token = await served.edge.token()
    url = target % served.where.encode()
    head = f" HTTP/1.1\r\nHost: x\r\n{SESSION}: {token}\r\n\r\n".encode()
    first, _, body = await answered(served, b"GET " + url + head)
    assert first == b"HTTP/1.1 200 OK"
    assert "user" in json.loads(body)


async def test_the_host_of_the_url_counts(served: Served) -> None:
    """So that no other page passes for ours by a header that is ignored."""
    token = await served.edge.token()
    head = (
        f"GET https://{served.where}/api/session HTTP/1.1\r\nHost: evil.example\r\n"
        f"Origin: https://evil.example\r\nCookie: {SESSION}={token}\r\n\r\n"
    )
    assert (await answered(served, head.encode()))[0] == b"HTTP/1.1 401 Unauthorized"
    own = head.replace("Origin: https://evil.example", f"Origin: https://{served.where}")
    assert (await answered(served, own.encode()))[0] == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("target", [b"*", b"https://x"])
async def test_options_of_the_whole_server(served: Served, target: bytes) -> None:
    """As a liveness check; every other method on ``*`` is refused."""
    end = b" HTTP/1.1\r\nHost: x\r\n\r\n"
    first, headers, _ = await answered(served, b"OPTIONS " + target + end)
    assert first == b"HTTP/1.1 204 No Content"
    assert {"get", "post", "options"} <= set(headers["allow"].split(", "))
    assert (await answered(served, b"GET *" + end))[0].startswith(b"HTTP/1.1 405 ")


async def test_the_description_is_sent_once(edge: Edge) -> None:
    """A client with the current version gets 304; another version has another ETag."""
    first = await edge.client.get("/openapi.json")
    tag = first.headers["etag"]
    for known in (tag, f'"x", W/{tag}', "*"):
        again = await edge.client.get("/openapi.json", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    for other in ('"x"', tag.strip('"')):
        again = await edge.client.get("/openapi.json", headers={"if-none-match": other})
        assert (again.status_code, again.content) == (200, first.content)


@pytest.mark.parametrize("path", ["/api", LIST])
async def test_who_is_sending_when_the_server_stops_is_told(
    hasty: Served, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """In the form of the request's protocol, and never as text/plain."""
    monkeypatch.setattr(
        "openvcha.api_server.server.connection.Connection._start_timer", lambda _: None
    )
    token = await hasty.edge.token()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{SESSION}: {token}\r\nContent-Length: 9\r\n\r\n{{"
    async with raw(hasty) as (reader, writer), asyncio.timeout(60):
        writer.write(head.encode())
        await until_reading(hasty)
        await hasty.server.stop()
        first, headers, body = await one_answer(reader)
    assert headers["content-type"] == "application/json"
    assert int(headers["retry-after"]) > 0
    if path == "/api":
        assert (first, json.loads(body)["error"]["code"]) == (b"HTTP/1.1 200 OK", -32000)
    else:
        assert first == b"HTTP/1.1 503 Service Unavailable"
        assert json.loads(body)["error_type"] == "SERVICE_UNAVAILABLE"
    assert b"server is stopping" in body


async def until_reading(served: Served, *, ended: bool = False) -> None:
    """Wait until a request has reached the application, or has left it."""
    state = served.server._server.server_state  # type: ignore[union-attr]  # it is started
    while bool(state.tasks) is ended:  # noqa: ASYNC110 - it is uvicorn's state
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/api", REDEPLOY])
async def test_who_goes_while_sending_is_no_failure_of_ours(
    served: Served, logged: list[Any], path: str
) -> None:
    """Nothing is logged as an error, and the audit has no internal error."""
    token = await served.edge.token()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{SESSION}: {token}\r\nContent-Length: 9\r\n\r\n{{"
    async with raw(served) as (_, writer):
        writer.write(head.encode())
        await until_reading(served)
        writer.transport.abort()
    async with asyncio.timeout(60):
        await until_reading(served, ended=True)
    assert [event for event in logged if event["log_level"] == "error"] == []
    audit = await served.edge.audit.list(AuditFilterSpec())
    assert [entry.result for entry in audit] == (["CANCELED"] if path == REDEPLOY else [])


@pytest.mark.parametrize(
    ("path", "session", "first", "said"),
    [
        ("/api", True, b"HTTP/1.1 200 OK", b"-32600"),
        ("/api", False, b"HTTP/1.1 200 OK", b"-32600"),
        (LIST, True, b"HTTP/1.1 400 Bad Request", b"decode.too.large"),
        (LIST, False, b"HTTP/1.1 401 Unauthorized", b"UNAUTHENTICATED"),
        ("/api/nothing", False, b"HTTP/1.1 404 Not Found", b"OPERATION_NOT_FOUND"),
    ],
)
async def test_an_answer_to_a_long_body_arrives(
    served: Served, path: str, session: bool, first: bytes, said: bytes
) -> None:
    """A client that sends everything first, and then reads, gets the answer, and then the end."""
    token = await served.edge.token() if session else "x"
    size = (7 << 20) if session else (1 << 20)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{SESSION}: {token}\r\nConnection: close\r\n"
    async with raw(served) as (reader, writer), asyncio.timeout(60):
        writer.write(f"{head}Content-Length: {size}\r\n\r\n".encode())
        for _ in range(size // 65536):
            writer.write(b" " * 65536)
            await writer.drain()
        line, _, body = await one_answer(reader)
        assert (line, said in body) == (first, True)
        assert await reader.read() == b""


async def test_an_endless_body_ends(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still read is bounded."""
    monkeypatch.setattr("openvcha.api_server.server.middleware.ANONYMOUS_DRAIN_BYTES", 1 << 20)
    head = b"POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    sent = 0
    async with raw(served) as (_, writer), asyncio.timeout(60):
        writer.write(head)
        with contextlib.suppress(ConnectionError):
            while sent < 64 << 20:
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0)  # drain alone never reports that the connection is lost
                sent += len(chunk)
    assert sent < 64 << 20


@pytest.mark.parametrize("cut", [1, 7, 4096, 1 << 20], ids=["bytes", "odd", "halves", "whole"])
@pytest.mark.parametrize(("length", "status"), [(LIMIT, b"404"), (LIMIT + 1, b"400")])
async def test_the_limit_of_the_head_is_where_it_is(
    served: Served, cut: int, length: int, status: bytes
) -> None:
    """However the client, or the network, splits the packets."""
    begin, end = b"GET /api/nothing HTTP/1.1\r\nHost: x\r\nX: ", b"\r\n\r\n"
    head = begin + b"x" * (length - len(begin) - len(end)) + end
    pieces = [head[at : at + cut] for at in range(0, len(head), cut)]
    first, _, _ = await answered(served, *pieces)
    assert first.split()[1] == status


async def _no_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


@dataclass
class Gate:
    """The middleware around an application that responds at once."""

    served: int = 0
    limiter: ConnectionLimiter = field(default_factory=lambda: ConnectionLimiter(100))

    def __post_init__(self) -> None:
        """Create the middleware."""
        self._edge = EdgeMiddleware(self._application, lambda _: ApiError(ErrorType.ERROR))

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.served += 1
        await Response(b"{}")(scope, receive, send)

    async def request(self, client: ClientConnection | None) -> tuple[int, dict[bytes, bytes]]:
        """Send a request over a connection; return the status and the headers."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope: dict[str, Any] = {
            "path": "/api/nothing",
            "raw_path": b"/api/nothing",
            "method": "GET",
        }
        scope |= {"type": "http", "headers": [], "state": {CLIENT: client}}
        await self._edge(scope, _no_body, send)
        return sent[0]["status"], dict(sent[0]["headers"])

    def connection(self, source: str) -> ClientConnection:
        """Return a new connection from an address."""
        made = self.limiter.admit(source)
        assert made is not None
        return made


@pytest.mark.looptime
async def test_a_source_without_a_session_has_a_budget_of_requests() -> None:
    """Over all of its connections; beyond it the standard error, and the connection ends."""
    gate = Gate()
    connections = [gate.connection("203.0.113.9") for _ in range(10)]
    known, other = gate.connection("203.0.113.9"), gate.connection("198.51.100.7")
    known.mark_recognized()
    for number in range(STRANGER_REQUEST_BURST + 1):
        assert (await gate.request(connections[number % 10]))[0] == 200
    status, headers = await gate.request(connections[0])
    assert (status, headers[b"retry-after"], headers[b"connection"]) == (503, b"1", b"close")
    assert gate.served == STRANGER_REQUEST_BURST + 1
    assert [(await gate.request(each))[0] for each in (known, other, None)] == [200] * 3
    await asyncio.sleep(1)
    statuses = [(await gate.request(connections[0]))[0] for _ in range(300)]
    assert statuses.count(200) == pytest.approx(MAX_STRANGER_REQUESTS_PER_SECOND, abs=1)


@pytest.mark.looptime
async def test_the_budgets_are_bounded() -> None:
    """Whatever the number of addresses."""
    gate = Gate(limiter=ConnectionLimiter(5000))
    for number in range(MAX_SOURCES + 100):
        await gate.request(gate.connection(f"10.0.{number // 250}.{number % 250}"))
    assert len(gate._edge._budgets) == MAX_SOURCES
