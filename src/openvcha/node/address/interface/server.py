"""The socket over which the node's service asks its helper for the public address."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final

import msgspec

from openvcha.node.address.interface.holder import Holder
from openvcha.node.address.interface.packets import HeldAddress
from openvcha.node.address.interface.protocol import (
    MAX_LINE_BYTES,
    Answer,
    Request,
    cannot,
    encode,
)
from openvcha.system.structlog_light import structlog

MAX_CLIENTS: Final = 4
PACE_SECONDS: Final = 0.02
"""The pause after each request: even an endless row of them costs little."""
SEND_SECONDS: Final = 2.0
"""How long a client may take to read an answer."""
_CREDENTIALS: Final = struct.Struct("3i")  # process, user, group
_ROOT: Final = 0

_log = structlog.get_logger(__name__)


class HelperServer:
    """The helper's side: one client holds the address, and it is gone when that client is.

    ``uid`` is the account that may ask; root may too. Everything but the configured address and
    interface is refused.
    """

    def __init__(
        self,
        spec: HeldAddress,
        holder: Holder,
        uid: int,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._spec = spec
        self._holder = holder
        self._uids = frozenset((_ROOT, uid))
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._owner: asyncio.StreamWriter | None = None
        self._ends = False

    async def serve(self, listener: socket.socket) -> None:
        """Serve a listening socket until canceled; then the address is gone."""
        await self._release()  # what a helper before this one has left
        server = await asyncio.start_unix_server(self._client, sock=listener, limit=MAX_LINE_BYTES)
        try:
            await asyncio.Event().wait()
        finally:
            self._ends = True
            server.close()
            handlers = [task for task in self._clients.values() if task]
            for client in self._clients:
                client.transport.abort()
            await asyncio.gather(*handlers, return_exceptions=True)
            await self._release()

    async def _release(self) -> None:
        async with self._turn:
            self._owner = None
            await self._holder.release()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._may_ask(writer) or len(self._clients) >= MAX_CLIENTS:
            writer.transport.abort()
            return
        self._clients[writer] = asyncio.current_task()
        try:
            with contextlib.suppress(OSError, TimeoutError):
                await self._answer_all(reader, writer)
        finally:
            del self._clients[writer]
            writer.transport.abort()
            if writer is self._owner:
                _log.warning("the service is gone: the public address is released")
                await self._release()

    def _may_ask(self, writer: asyncio.StreamWriter) -> bool:
        peer = writer.get_extra_info("socket")
        found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process, uid, _ = _CREDENTIALS.unpack(found)
        if uid not in self._uids:
            _log.warning("refused another account", process=process, uid=uid)
        return uid in self._uids

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await reader.readline()
                request = msgspec.json.decode(line, type=Request) if line else None
            except (ValueError, RecursionError) as error:  # too long, or no request
                writer.write(encode(cannot(f"invalid request: {error}")))
                return
            if request is None:
                return
            writer.write(encode(await self._answer(request, writer)))
            async with asyncio.timeout(SEND_SECONDS):
                await writer.drain()
            await self._sleep(PACE_SECONDS)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> Answer:
        if reason := self._refusal(request):
            return cannot(reason)
        async with self._turn:
            if self._ends:
                return cannot("the helper is being stopped")
            if request.do == "check":
                return await self._holder.check()
            if self._owner not in {None, writer}:
                return cannot("another program of this node holds the address")
            match request.do:
                case "acquire":
                    self._owner = writer
                    answer = await self._holder.acquire(request.until)
                case "refresh":
                    answer = await self._holder.refresh(request.until)
                case "release":
                    answer = await self._holder.release()
            if not answer.holds:
                self._owner = None
            return answer

    def _refusal(self, request: Request) -> str | None:
        if request.interface != self._spec.interface:
            return f"this helper is configured for the interface {self._spec.interface} only"
        try:
            asked = ip_address(request.address)
        except ValueError:
            asked = None
        if asked != self._spec.address:
            return f"this helper is configured for the address {self._spec.address} only"
        return None
