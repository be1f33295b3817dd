"""Oversized bodies, sent repeatedly: draining them takes a bounded share of the API's time."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from openvcha.api_server.response import Response
from openvcha.api_server.server.middleware import (
    DRAIN_SECONDS,
    MAX_DRAIN_BYTES_PER_SECOND,
    EdgeMiddleware,
)

PIECE = 1 << 16
CLIENTS = 64
SECONDS = 5


def posted(size: int) -> Scope:
    """Return the scope of a request with a body of this size."""
    return {
        "type": "http",
        "method": "POST",
        "path": "/api",
        "raw_path": b"/api",
        "query_string": b"",
        "headers": [(b"content-length", b"%d" % size)],
    }


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer before the body was read, and close."""
    await Response(b"", 400, {"connection": "close"})(scope, receive, send)


@pytest.mark.looptime
async def test_what_nobody_reads_is_let_in_slowly() -> None:
    """The limit covers all clients together; each gets its answer first."""
    read, answers = 0, list[int]()
    front = EdgeMiddleware(refuse, internal=lambda failure: pytest.fail(str(failure)))
    scope = posted(1 << 30)

    async def receive() -> Message:
        nonlocal read
        await asyncio.sleep(0)
        read += PIECE
        return {"type": "http.request", "body": bytes(PIECE), "more_body": True}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answers.append(message["status"])

    async with asyncio.timeout(DRAIN_SECONDS + 1):
        calls = [asyncio.create_task(front(scope, receive, send)) for _ in range(CLIENTS)]
        await asyncio.sleep(SECONDS)
        assert answers == [400] * CLIENTS
        most = (1 + SECONDS) * MAX_DRAIN_BYTES_PER_SECOND + CLIENTS * PIECE
        assert most / 2 < read <= most
        await asyncio.gather(*calls)


@pytest.mark.looptime
async def test_one_body_is_let_in_at_once() -> None:
    """A client that made one mistake does not wait."""
    left = 1 << 20
    front = EdgeMiddleware(refuse, internal=lambda failure: pytest.fail(str(failure)))
    scope = posted(left)

    async def receive() -> Message:
        nonlocal left
        left -= PIECE
        return {"type": "http.request", "body": bytes(PIECE), "more_body": left > 0}

    async def send(message: Message) -> None:
        """Accept the answer."""

    begun = asyncio.get_running_loop().time()
    await front(scope, receive, send)
    assert asyncio.get_running_loop().time() == begun
    assert not left
