"""The API's client."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.edge import make_tls
from tests.support.serving import serving

from openvcha.api.secret import Secret
from openvcha.client.errors import RequestRefused, ServerUnreachable, ServerUntrusted
from openvcha.client.rest_client import ApiClient

Answer = Callable[[httpx2.Request], httpx2.Response]
RUNNING = {"status": "RUNNING", "progress": {"completed": 10}}
SUCCEEDED = {"status": "SUCCEEDED", "progress": {"completed": 100}}


def client(answer: Answer) -> ApiClient:
    """Return a client whose requests are answered here."""
    api = ApiClient("https://server:1", ssl.create_default_context())
    api._http = httpx2.AsyncClient(
        base_url="https://server:1/api", transport=httpx2.MockTransport(answer)
    )
    return api


async def _followed(api: ApiClient, silence: float = 10.0) -> list[str]:
    return [info["status"] async for info in api.follow("t:1", silence)]


async def test_following_outlives_a_failover() -> None:
    """Refused connections and 503 are retried; an unchanged state is not repeated."""
    answers: list[Any] = [RUNNING, RUNNING, httpx2.ConnectError("gone"), 503, SUCCEEDED]

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/api/cis/tasks/t:1"
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, int):
            return httpx2.Response(found)
        return httpx2.Response(200, json=found)

    async with client(answer) as api:
        assert await _followed(api) == ["RUNNING", "SUCCEEDED"]


async def test_following_ends_when_nobody_answers_any_more() -> None:
    """Retries have a limit, and the error names the silent server."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    async with client(answer) as api:
        with pytest.raises(ServerUnreachable, match="https://server:1 does not respond: refused"):
            await _followed(api, silence=0.0)


async def test_a_refusal_is_told_in_the_words_of_the_api() -> None:
    """The type and all messages of the standard error."""
    body: dict[str, Any] = {
        "error_type": "ERROR",
        "messages": [{"default_message": t} for t in ("One.", "Two.")],
    }
    async with client(lambda _: httpx2.Response(500, json=body)) as api:
        with pytest.raises(RequestRefused, match=r"^ERROR: One\. Two\.$"):
            await api.call("GET", "/x")
    body["data"] = {"ssl_thumbprint": "AA:BB"}
    async with client(lambda _: httpx2.Response(400, json=body)) as api:
        with pytest.raises(RequestRefused, match="presented thumbprint AA:BB"):
            await api.call("GET", "/x")
    async with client(lambda _: httpx2.Response(502, text="<html>")) as api:
        with pytest.raises(RequestRefused, match=r"^HTTP 502$"):
            await api.call("GET", "/x")


async def test_a_session_is_ended_and_its_password_goes_nowhere_else() -> None:
    """Basic is sent to log in only; the token is in every other request until the logout."""
    seen: list[tuple[str, str, bool, str | None]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        headers = request.headers
        token = headers.get("vmware-api-session-id")
        seen.append((request.method, request.url.path, "authorization" in headers, token))
        return httpx2.Response(201, json="token")

    async with client(answer) as api:
        async with api.session("bob", Secret("pw")):
            await api.call("GET", "/x", query=[("a", "1"), ("a", "2 3")])
        await asyncio.sleep(0)
    assert seen == [
        ("POST", "/api/session", True, None),
        ("GET", "/api/x", False, "token"),
        ("DELETE", "/api/session", False, "token"),
    ]


def streamed(*numbers: int) -> httpx2.Response:
    """Return a stream that ends after some events."""
    text = "retry: 1000\n\n: alive\n\n"
    text += "".join(f'id: {n}\nevent: x.y\ndata: {{"id":"{n}"}}\n\n' for n in numbers)
    return httpx2.Response(200, text=text)


async def test_events_are_followed_through_a_failover_from_where_they_were() -> None:
    """Each connection resumes after the last event that was seen."""
    answers: list[Any] = [
        streamed(4, 5),
        httpx2.ConnectError("gone"),
        httpx2.Response(503),
        streamed(),
        streamed(6),
        httpx2.Response(401),
    ]
    asked: list[str] = []
    found: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["accept"] == "text/event-stream"
        asked.append(request.headers["last-event-id"])
        given = answers.pop(0)
        if isinstance(given, Exception):
            raise given
        return given  # type: ignore[no-any-return]  # the list holds errors too

    async def follow(api: ApiClient) -> None:
        async for event in api.events("3", silence=10.0):
            found.append(event["id"])  # noqa: PERF401 - it ends by an error

    async with client(answer) as api:
        with pytest.raises(RequestRefused, match="401"):
            await follow(api)
    assert found == ["4", "5", "6"]
    assert asked == ["3", "5", "5", "5", "5", "6"]


async def test_following_events_ends_when_nobody_answers_any_more() -> None:
    """As with a task."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    async with client(answer) as api:
        with pytest.raises(ServerUnreachable, match="does not respond: refused"):
            await anext(api.events("0", silence=0.0))


async def test_a_certificate_that_is_not_trusted_is_told_from_silence(tmp_path: Path) -> None:
    """By the exception, not by its text: retrying is of no use."""
    files = make_tls(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    async with AsyncExitStack() as stack:
        async with serving(lambda *_: None, tls=context) as port:
            url = f"https://127.0.0.1:{port}"
            api = await stack.enter_async_context(ApiClient(url, ssl.create_default_context()))
            with pytest.raises(ServerUntrusted, match=r"not trusted \(.+\); use --ca or --thumb"):
                await api.call("GET", "/session")
        with pytest.raises(ServerUnreachable) as caught:
            await api.call("GET", "/session")
    assert not isinstance(caught.value, ServerUntrusted)
