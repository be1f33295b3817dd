"""The event stream: it resumes where it stopped, and ends when it must."""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx2
import pytest
from tests.support.edge import ADMINISTRATOR, NOBODY, READER, STOP_SECONDS, Served

from openvcha.api.errors import ApiError
from openvcha.api.messages import message
from openvcha.api.structures import EventSeverity
from openvcha.api_server import stream
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.events.state_diff import EventDraft
from openvcha.store.errors import StoreUnavailable

PATH = "/api/openvcha/events"


async def tell(served: Served, *names: str) -> None:
    events = served.edge.events
    before = await events.last_reported()
    drafts = [
        EventDraft(
            type="x.y", severity=EventSeverity.INFO, message=message("event.node.left", n), node=n
        )
        for n in names
    ]
    assert await events.append(before, before.memory, drafts)


@contextlib.asynccontextmanager
async def opened(
    served: Served, headers: dict[str, str], query: str = ""
) -> AsyncIterator[tuple[httpx2.Response, AsyncIterator[str]]]:
    context = ssl.create_default_context(cafile=str(served.tls.authority))
    async with (
        asyncio.timeout(60),
        httpx2.AsyncClient(verify=context, base_url=f"https://{served.where}") as http,
        http.stream(
            "GET", PATH + query, headers={"accept": "text/event-stream", **headers}
        ) as reply,
    ):
        yield reply, reply.aiter_lines()


async def next_events(lines: AsyncIterator[str], count: int) -> list[dict[str, Any]]:
    """Return the next events; keep-alives are skipped."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        line = await anext(lines)
        if line.startswith("data: "):
            found.append(json.loads(line.removeprefix("data: ")))
    return found


async def rest_of(lines: AsyncIterator[str]) -> list[str]:
    return [line async for line in lines if not line.startswith((":", "retry:")) and line]


async def test_events_come_as_they_happen(served: Served) -> None:
    """Without an id: only events from now on."""
    await tell(served, "before")
    async with opened(served, await served.edge.headers(READER)) as (reply, lines):
        assert reply.headers["content-type"] == "text/event-stream"
        assert await anext(lines) == "retry: 1000"
        await tell(served, "a", "b")
        await tell(served, "c")
        found = await next_events(lines, 3)
    assert [event["node"] for event in found] == ["a", "b", "c"]
    assert [event["id"] for event in found] == ["2", "3", "4"]


async def test_each_event_has_its_id_and_type_as_fields(served: Served) -> None:
    """So that a browser's EventSource resumes by itself."""
    await tell(served, "a")
    headers = await served.edge.headers() | {"last-event-id": "0"}
    async with opened(served, headers) as (_, lines):
        shown = [await anext(lines) for _ in range(5)]
    assert shown[2:4] == ["id: 1", "event: x.y"]


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({"last-event-id": "1"}, "", ["b", "c", "new"]),
        ({}, "?after=2", ["c", "new"]),
        ({"last-event-id": "2"}, "?after=0", ["c", "new"]),
    ],
)
async def test_a_stream_goes_on_after_an_id(
    served: Served, headers: dict[str, str], query: str, expected: list[str]
) -> None:
    """Without a gap or a repetition; the header takes precedence over the query."""
    await tell(served, "a", "b", "c")
    async with opened(served, await served.edge.headers() | headers, query) as (_, lines):
        await tell(served, "new")
        found = await next_events(lines, len(expected))
    assert [event["node"] for event in found] == expected


@pytest.mark.parametrize(
    ("name", "headers", "status"),
    [(NOBODY, {}, 403), (None, {}, 401), (ADMINISTRATOR, {"last-event-id": "x"}, 400)],
)
async def test_who_may_not_look_gets_no_stream(
    served: Served, name: str | None, headers: dict[str, str], status: int
) -> None:
    """It gets a standard error instead."""
    own = await served.edge.headers(name) if name else {}
    async with opened(served, own | headers) as (reply, _):
        assert reply.status_code == status
        assert "error_type" in json.loads(await reply.aread())


async def test_an_unknown_query_is_refused_as_on_any_route(served: Served) -> None:
    """It is decoded as for the list."""
    async with opened(served, await served.edge.headers(), "?x=1") as (reply, _):
        assert reply.status_code == 400


async def test_a_plain_request_gets_the_list(served: Served) -> None:
    """Only a client that asks for a stream gets one."""
    headers = await served.edge.headers() | {"accept": "application/json"}
    async with opened(served, headers) as (reply, _):
        assert reply.headers["content-type"] == "application/json"


async def test_it_ends_cleanly_and_soon_when_the_server_stops(served: Served) -> None:
    """The stop does not wait for readers, and the client sees a complete answer."""
    async with opened(served, await served.edge.headers()) as (_, lines):
        await anext(lines)
        begun = time.monotonic()
        stopping = asyncio.create_task(served.server.stop())
        assert await rest_of(lines) == []
        await stopping
        # Long before the limit at which running requests are canceled.
        assert time.monotonic() - begun < STOP_SECONDS / 2


@pytest.mark.parametrize("end", ["log out", "role", "user"])
async def test_it_ends_when_the_session_or_the_privilege_is_gone(
    served: Served, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Later events are not sent any more."""
    monkeypatch.setattr(stream, "MAX_OUTLIVING_SECONDS", 0.1)
    headers = await served.edge.headers(READER)
    async with opened(served, headers) as (_, lines):
        await tell(served, "a")
        await next_events(lines, 1)
        match end:
            case "log out":
                await served.edge.client.delete("/api/session", headers=headers)
            case "role":
                await served.edge.users.set_role(READER, UserRole.NO_ACCESS)
            case "user":
                await served.edge.users.remove(READER)
        assert await rest_of(lines) == []


async def test_it_lives_while_the_session_lives(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends keep-alives, even while the store is away and the session cannot be checked."""
    monkeypatch.setattr(stream, "MAX_OUTLIVING_SECONDS", 0.05)
    headers = await served.edge.headers()
    async with opened(served, headers) as (_, lines):
        for _ in range(3):
            while await anext(lines) != ": alive":
                pass

        async def away(_: str) -> None:
            raise StoreUnavailable("away")

        with monkeypatch.context() as patch:
            patch.setattr(served.edge.store, "get", away)
            while await anext(lines) != ": alive":
                pass
        await tell(served, "a")
        assert (await next_events(lines, 1))[0]["node"] == "a"


async def test_there_are_not_endlessly_many(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each needs a connection; a slot is free again when its client leaves."""
    monkeypatch.setattr(stream, "MAX_STREAMS", 1)
    headers = await served.edge.headers()
    async with opened(served, headers) as (_, lines):
        await anext(lines)
        async with opened(served, headers) as (second, _):
            assert second.status_code == 503
    deadline = time.monotonic() + 30
    while True:
        async with opened(served, headers) as (third, _):
            if third.status_code == 200:
                break
        assert time.monotonic() < deadline


async def test_one_user_takes_not_all_the_places(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user can still follow the events."""
    monkeypatch.setattr(stream, "MAX_STREAMS_PER_USER", 1)
    greedy, own = await served.edge.headers(READER), await served.edge.headers()
    async with opened(served, greedy) as (_, lines):
        await anext(lines)
        async with opened(served, greedy) as (second, _), opened(served, own) as (other, _):
            assert (second.status_code, other.status_code) == (503, 200)


async def test_who_does_not_read_loses_the_stream(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session cannot be checked while a send waits; the place is free again."""
    monkeypatch.setattr(stream, "MAX_OUTLIVING_SECONDS", 0.4)
    monkeypatch.setattr(stream.EventStream, "_pieces", endless)
    headers = await served.edge.headers(READER)
    request = f"GET {PATH}?after=0 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
    request += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    context = ssl.create_default_context(cafile=str(served.tls.authority))
    with socket.create_connection(("127.0.0.1", served.port)) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.setblocking(False)
        reader, writer = await asyncio.open_connection(
            sock=plain.dup(), ssl=context, server_hostname="127.0.0.1", limit=1
        )
        writer.write(f"{request}\r\n".encode())
        assert (await reader.readexactly(12)) == b"HTTP/1.1 200"
        _, left = await asyncio.wait(streams(), timeout=30)
        assert not left
        writer.transport.abort()


async def endless(*_: Any) -> AsyncGenerator[bytes, None]:
    """Yield more than the buffers hold."""
    while True:
        yield b": %s\n\n" % (b"x" * (1 << 20))


def streams() -> set[asyncio.Task[Any]]:
    """Return the tasks that send events."""
    return {task for task in asyncio.all_tasks() if "_pump" in repr(task.get_coro())}


async def test_two_users_leave_places_for_others(served: Served) -> None:
    """However many streams they ask for; each further user finds one."""
    streaming = served_stream(served)
    async with contextlib.AsyncExitStack() as stack:
        for greedy in ("a", "b", "c"):
            with contextlib.suppress(ApiError):
                for _ in range(stream.MAX_STREAMS + 1):
                    await stack.enter_async_context(streaming._slot(greedy))
        for number in range(5):
            await stack.enter_async_context(streaming._slot(f"other-{number}"))


def served_stream(served: Served) -> stream.EventStream:
    """Return an application of its own, which streams to nobody yet."""

    async def nothing(*_: Any) -> None:
        pass

    return stream.EventStream(served.edge.pipeline, served.edge.events, nothing)


async def test_a_stranger_takes_no_place(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly it is refused, authorized clients get in."""
    monkeypatch.setattr(stream, "MAX_STREAMS", 1)
    asked, go_on = asyncio.Event(), asyncio.Event()
    get = served.edge.store.get

    async def slow(key: str) -> object:
        if not asked.is_set():
            asked.set()
            await go_on.wait()
        return await get(key)

    headers = await served.edge.headers()
    monkeypatch.setattr(served.edge.store, "get", slow)

    async def strange() -> int:
        async with opened(served, {"vmware-api-session-id": "ab" * 32}) as (reply, _):
            return reply.status_code

    stranger = asyncio.create_task(strange())
    async with asyncio.timeout(60):
        await asked.wait()
    async with opened(served, headers) as (reply, _):
        assert reply.status_code == 200
    go_on.set()
    assert await stranger == 401
