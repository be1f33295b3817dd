"""HTTPS on a real socket: TLS, limits, slow clients, starting and stopping."""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.edge import ADMINISTRATOR, PASSWORD, STOP_SECONDS, Edge, Served, TlsFiles
from tests.support.kernel import answers_at_once
from tests.support.raw_http import raw, rest_of

from openvcha.api_server.server import https
from openvcha.api_server.server.connection import MAX_HEADERS
from openvcha.api_server.server.https import HttpsServer, Limits
from openvcha.api_server.server.listening import AddressUnusableError

BASIC = (ADMINISTRATOR, PASSWORD)


@contextlib.asynccontextmanager
async def client(served: Served) -> AsyncIterator[httpx2.AsyncClient]:
    """Return a client that trusts the server's authority."""
    context = ssl.create_default_context(cafile=str(served.tls.authority))
    async with httpx2.AsyncClient(verify=context, base_url=f"https://{served.where}") as made:
        yield made


async def test_it_speaks_https(served: Served) -> None:
    """From login to logout, on one connection; no server header, exact content types."""
    async with client(served) as https:
        created = await https.post("/api/session", auth=BASIC)
        assert (created.status_code, created.headers["content-type"]) == (201, "application/json")
        assert "server" not in created.headers
        header = {"vmware-api-session-id": created.json()}
        assert (await https.get("/api/session", headers=header)).status_code == 200
        assert (await https.head("/api/session", headers=header)).content == b""
        deleted = await https.delete("/api/session", headers=header)
        assert (deleted.status_code, deleted.content) == (204, b"")
        assert served.edge.dispatcher.calls == []


async def test_small_answers_wait_for_no_acknowledgement(served: Served) -> None:
    """Otherwise each one costs its client 40 ms: the head and the body are two writes."""
    async with client(served) as https:
        await https.get("/api/nothing")
        assert answers_at_once(served.port)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "spoken"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
async def test_tls_begins_with_1_2(served: Served, version: ssl.TLSVersion, spoken: bool) -> None:
    """Older versions are refused, newer ones are supported."""
    context = ssl.create_default_context(cafile=str(served.tls.authority))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    expected = (
        contextlib.nullcontext() if spoken else pytest.raises((ssl.SSLError, ConnectionResetError))
    )
    with expected:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=context)
        writer.close()
        await writer.wait_closed()


async def test_plain_http_gets_nothing(served: Served) -> None:
    """HTTPS only."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /api/session HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"HTTP/" not in await rest_of(reader)
    writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 10000,
        b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n\tz\r\n\r\n",
    ],
    ids=[
        *("nonsense", "no-host", "long-header", "negative-length", "two-lengths"),
        *("length-and-chunks", "bare-lf", "bare-lf-at-the-end", "folded", "folded-by-tab"),
    ],
)
async def test_what_is_no_http_is_answered_with_a_standard_error(
    served: Served, request_: bytes
) -> None:
    """400 and JSON, then the connection ends."""
    async with raw(served) as (reader, writer):
        writer.write(request_)
        head, _, body = (await rest_of(reader)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json" in head
    assert json.loads(body)["error_type"] == "INVALID_REQUEST"


@pytest.mark.parametrize("end", [b"\r\n", b""], ids=["whole", "unfinished"])
async def test_many_headers_are_refused_before_they_are_parsed(served: Served, end: bytes) -> None:
    """431 as a standard error: 8000 tiny ones would take the loop 50 ms. A hundred are fine."""
    head = b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n"
    async with raw(served) as (reader, writer):
        writer.write(head + b"a:\r\n" * (MAX_HEADERS - 1) + b"\r\n")
        assert b"404" in await reader.readuntil(b"}]}")
        writer.write(head + b"a:\r\n" * MAX_HEADERS + end)
        head, _, body = (await rest_of(reader)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert json.loads(body)["messages"][0]["args"] == [str(MAX_HEADERS)]


@pytest.mark.parametrize(
    ("part", "status"),
    [
        (b"", b""),
        (b"GET /api/ses", b"HTTP/1.1 408 Request Timeout\r\n"),
        (b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", b"HTTP/1.1 408 "),
    ],
    ids=["nothing", "half-a-header", "half-a-body"],
)
async def test_a_slow_client_is_cut_off(
    hasty: Served, logged: list[Any], part: bytes, status: bytes
) -> None:
    """Half a request for too long (half a second in this test) gets an error that says why."""
    async with raw(hasty) as (reader, writer):
        writer.write(part)
        async with asyncio.timeout(30):
            answer = await rest_of(reader)
    assert answer[: len(status)] == status
    assert (b"did not arrive within 0.5 seconds" in answer) is bool(status)
    assert [event for event in logged if event["log_level"] == "error"] == []


async def test_a_second_request_that_does_not_end_is_cut_off_too(hasty: Served) -> None:
    """The timeout applies to each request on a connection, not only to the first."""
    async with raw(hasty) as (reader, writer):
        writer.write(b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"404" in await reader.readuntil(b"}]}")
        writer.write(b"GET /api/")
        async with asyncio.timeout(30):
            assert (await rest_of(reader)).startswith(b"HTTP/1.1 408 ")


async def test_idle_between_requests_is_no_slowness(hasty: Served) -> None:
    """A kept-alive connection may be idle for longer than a request may take."""
    async with raw(hasty) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"404" in await reader.readuntil(b"}]}")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.8)


async def test_a_body_over_the_limit_is_refused_before_it_has_arrived(served: Served) -> None:
    """By its Content-Length; the connection ends, as the rest is no valid request."""
    length = b"Content-Length: 99999999\r\n\r\n"
    async with raw(served) as (reader, writer):
        writer.write(b"POST /api HTTP/1.1\r\nHost: x\r\n" + length)
        answer = await rest_of(reader)
    assert b"HTTP/1.1 200" in answer
    assert b"-32600" in answer


async def test_a_body_is_not_asked_for_without_a_session(served: Served) -> None:
    """A client that waits for `100 Continue` gets 401 instead."""
    async with raw(served) as (reader, writer):
        writer.write(
            b"POST /api/cis/tasks?action=list HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        )
        assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"


async def test_an_address_that_is_taken_is_said_clearly(served: Served) -> None:
    """With the address and the reason."""
    other = HttpsServer(served.edge.app, served.tls.certificate, served.tls.key)
    with pytest.raises(AddressUnusableError, match="another process is already listening there"):
        await other.start("127.0.0.1", served.port)
    assert not other.running
    with pytest.raises(
        AddressUnusableError, match=r"192\.0\.2\.1 port 0.*does not have the address"
    ):
        await other.start("192.0.2.1", 0)


async def test_bad_files_are_said_at_the_start(tmp_path: Path, tls: TlsFiles) -> None:
    """A missing or an invalid certificate; then nothing listens."""
    app: Any = None
    with pytest.raises(OSError, match="No such file"):
        await HttpsServer(app, tmp_path / "none", tls.key).start("127.0.0.1", 0)
    with pytest.raises(ssl.SSLError):
        await HttpsServer(app, tls.authority, tls.key).start("127.0.0.1", 0)


async def test_it_starts_and_stops_many_times_on_one_address(served: Served) -> None:
    """As when the node becomes active, passive, and active again."""
    for _ in range(3):
        async with client(served) as https:
            assert (await https.get("/api/nothing")).status_code == 404
            await served.server.stop()
            assert not served.server.running
            with pytest.raises(httpx2.TransportError):
                await https.get("/api/nothing")
        await served.server.start("127.0.0.1", served.port)
    with pytest.raises(RuntimeError, match="running already"):
        await served.server.start("127.0.0.1", served.port)


async def test_a_start_that_is_cancelled_leaves_nothing_behind(edge: Edge, tls: TlsFiles) -> None:
    """As when the node stops being active while it takes the address."""
    server = HttpsServer(edge.app, tls.certificate, tls.key)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    starting = asyncio.create_task(server.start("127.0.0.1", port))
    await asyncio.sleep(0)  # it has bound the address and waits for the server
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not server.running
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_stopping_closes_idle_connections_at_once(served: Served) -> None:
    """The stop does not wait for idle keep-alive connections."""
    async with raw(served) as (reader, writer):
        writer.write(b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"}]}")
        begun = time.monotonic()
        await served.server.stop()
        assert time.monotonic() - begun < STOP_SECONDS / 2
        assert await rest_of(reader) == b""


async def test_stopping_does_not_wait_for_a_client_that_never_answers(served: Served) -> None:
    """Nor for its TLS close_notify."""

    def connect() -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(served.tls.authority))
        plain = socket.create_connection(("127.0.0.1", served.port))
        client = context.wrap_socket(plain, server_hostname="127.0.0.1")
        client.sendall(b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(9) == b"HTTP/1.1 "
        return client

    deaf = await asyncio.to_thread(connect)
    begun = time.monotonic()
    await served.server.stop()
    assert time.monotonic() - begun < STOP_SECONDS / 2
    deaf.close()


async def test_stopping_ends_who_has_only_begun_to_connect(edge: Edge, tls: TlsFiles) -> None:
    """Otherwise it would complete after the stop, and be answered by a node that is not active."""
    limits = Limits(handshake_seconds=3600)
    server = HttpsServer(edge.app, tls.certificate, tls.key, limits=limits)
    _, port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with client(Served(edge, server, port, tls)) as https:
        await https.get("/api/nothing")  # earlier connections have been accepted
    await server.stop()
    async with asyncio.timeout(60):
        assert await rest_of(reader) == b""
    writer.close()


class Slow:
    """A SIMULATED dispatcher whose call lasts until it is released, or cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = False

    async def invoke(self, *_: Any) -> Any:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "task-1"


async def slow(served: Served, https: httpx2.AsyncClient) -> tuple[Slow, asyncio.Task[Any]]:
    """Yield a request in progress."""
    dispatcher = Slow()
    pipeline: Any = served.edge.pipeline
    pipeline._dispatcher = dispatcher
    path = "/api/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true"
    spec = {"placement": {"name": "n", "folder": "f"}}
    asked = asyncio.create_task(https.post(path, json=spec, auth=BASIC))
    await dispatcher.begun.wait()
    return dispatcher, asked


async def test_stopping_lets_a_running_request_end(served: Served) -> None:
    """It still gets its answer."""
    async with client(served) as https:
        dispatcher, asked = await slow(served, https)
        stopping = asyncio.create_task(served.server.stop())
        dispatcher.go.set()
        assert (await asked).status_code == 202
        await stopping


async def test_stopping_has_a_deadline(hasty: Served) -> None:
    """A request that does not end is cancelled (after one second in this test), with an error."""
    async with client(hasty) as https:
        dispatcher, asked = await slow(hasty, https)
        async with asyncio.timeout(30):
            await hasty.server.stop()
        answer = await asked
        assert (answer.status_code, answer.json()["error_type"]) == (503, "SERVICE_UNAVAILABLE")
        assert answer.json()["messages"][0]["id"].endswith("server.stopping")
        assert int(answer.headers["retry-after"]) > 0
        assert dispatcher.cancelled


async def test_the_listener_can_be_taken_over_at_once(served: Served) -> None:
    """After a stop another socket may bind the address, although connections linger."""
    async with client(served) as https:
        await https.get("/api/nothing")
    await served.server.stop()
    with socket.create_server(("127.0.0.1", served.port)):
        pass


async def test_the_listener_can_be_taken_over_while_requests_run(served: Served) -> None:
    """As when another node leads: new clients are refused, running requests get their answer."""
    async with client(served) as https:
        dispatcher, asked = await slow(served, https)
        served.server.close()
        with socket.create_server(("127.0.0.1", served.port)):
            dispatcher.go.set()
            assert (await asked).status_code == 202
            await served.server.stop()


async def test_an_idle_server_wakes_once_a_second(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a stop does not wait for the next wake-up."""
    monkeypatch.setattr(https, "DATE_SECONDS", 3600.0)
    await served.server.stop()
    await served.server.start("127.0.0.1", served.port)
    async with asyncio.timeout(60):
        await served.server.stop()
    assert not served.server.running
