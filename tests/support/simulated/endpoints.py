"""Endpoints of a store that fail on purpose."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

from tests.support.serving import serving

from openvcha.store.etcd.client import Etcd


class Request(NamedTuple):
    """A request to a simulated endpoint, and the connection to answer on."""

    path: str
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    token: str = ""


Behaviour = Callable[[Request], Awaitable[None]]


@asynccontextmanager
async def endpoint(behave: Behaviour) -> AsyncIterator[str]:
    """Serve HTTP as ``behave`` says, one request per connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = (line for line in head.split("\r\n") if line.lower().startswith("content-l"))
        length = next(lines, "content-length: 0")
        body = await reader.readexactly(int(length.split(":")[1]))
        tokens = [line for line in head.split("\r\n") if line.lower().startswith("authorization")]
        token = tokens[0].split(":")[1].strip() if tokens else ""
        try:
            await behave(Request(head.split()[1], body, reader, writer, token))
        finally:
            writer.close()

    async with serving(serve) as port:
        yield f"http://127.0.0.1:{port}"


def answer(status: int, body: dict[str, Any]) -> Behaviour:
    """Return the same answer to every request."""

    async def behave(request: Request) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        request.writer.write(head.encode() + data)
        await request.writer.drain()

    return behave


def refuse(code: int, message: str, status: int = 503) -> Behaviour:
    """Refuse as the gateway does."""
    return answer(status, {"error": message, "message": message, "code": code})


@asynccontextmanager
async def client(*behaviours: Behaviour | str, patience: float = 1.0) -> AsyncIterator[Etcd]:
    """Return a client of endpoints with these behaviours; a string is taken as a URL."""
    async with AsyncExitStack() as stack:
        urls = [
            one if isinstance(one, str) else await stack.enter_async_context(endpoint(one))
            for one in behaviours
        ]
        yield await stack.enter_async_context(Etcd(urls, None, timeout=patience))
