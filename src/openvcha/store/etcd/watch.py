"""A watch that survives its connections: it always knows the next revision to receive.

A response stream can fall silent without ending: a frozen member, a cut network, or a member that
lost its quorum and so receives no writes. After some silence, the same endpoint must therefore
serve a quorum read, unless it has served one within about that time: each request of the process
counts. A stream that stays quiet is also reopened from time to time, which loses no event.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any
from zlib import crc32

import msgspec

from openvcha.store.errors import (
    AuthenticationFailed,
    Compacted,
    PermissionDenied,
    StoreError,
    StoreUnavailable,
)
from openvcha.store.etcd import reply_forms, wire
from openvcha.store.etcd.gateway import INITIAL_PAUSE, MAX_PAUSE, QUORUM_READ, Gateway
from openvcha.store.etcd.reply_forms import Json, Malformed
from openvcha.store.interface import Event

MIN_CHECK_SECONDS = 0.5
SPREAD = 0.3
PROVEN = 1.2
"""For how much of the silence a quorum read counts: one every two seconds, which every program
makes, is enough for all of its watches."""
REOPEN_AFTER_CHECKS = 30
"""One to two minutes, by the silence: the kernel ends much earlier what is lost without a word."""


class Watch:
    """One watch. After ``silence`` quiet seconds, it checks the endpoint."""

    def __init__(self, gateway: Gateway, target: str, start_revision: int, silence: float) -> None:
        self._gateway = gateway
        self._target = target
        self._next = start_revision
        # The watches of a process check at different times, so that one check serves all of them.
        self._silence = silence * (1 - SPREAD * (crc32(target.encode()) % 100) / 100)
        self._proven_seconds = PROVEN * silence
        self._check_seconds = max(MIN_CHECK_SECONDS, 0.75 * silence)
        self._pause = INITIAL_PAUSE

    async def events(self) -> AsyncGenerator[list[Event], None]:
        """Yield the events in order. Raises Compacted."""
        while True:
            endpoint, token = self._gateway.endpoints[0], self._gateway.token
            try:
                async with (
                    self._gateway.stream(endpoint, "/v3/watch", self._request()) as lines,
                    aclosing(self._lively(endpoint, lines)) as lively,
                ):
                    async for line in lively:
                        events = self._take(line)
                        if events:
                            yield events
            except Compacted:
                raise
            except AuthenticationFailed:
                await self._show(endpoint, token)
            except StoreError:  # the connection is lost or useless: try the next endpoint
                self._gateway.demote(endpoint)
                await self._rest()

    async def _show(self, endpoint: str, token: str) -> None:
        try:
            shown = await self._gateway.authenticate(endpoint, token)
        except StoreError:
            shown = False
        if not shown:
            self._gateway.demote(endpoint)
        await self._rest()

    async def _rest(self) -> None:
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, MAX_PAUSE)

    def _request(self) -> Json:
        request = wire.range_of(self._target, prefix=self._target.endswith("/"))
        request |= {"start_revision": self._next, "progress_notify": True}
        return {"create_request": request}

    async def _lively(
        self, endpoint: str, lines: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the lines while they arrive, or checks show that the endpoint has a quorum."""
        pending: asyncio.Future[bytes] | None = None
        checks = 0
        try:
            while checks < REOPEN_AFTER_CHECKS:
                pending = pending or asyncio.ensure_future(anext(lines))
                await asyncio.wait([pending], timeout=self._silence)
                if pending.done():
                    line, pending, checks = pending.result(), None, 0
                    yield line
                else:
                    await self._check(endpoint)
                    checks += 1
        except StopAsyncIteration:
            raise StoreUnavailable(f"{endpoint}: the watch was ended") from None
        finally:
            if pending is not None:
                pending.cancel()
                await asyncio.wait([pending])

    async def _check(self, endpoint: str) -> None:
        """Check that an endpoint has a quorum. Raises StoreUnavailable."""
        since = asyncio.get_running_loop().time() - self._proven_seconds
        if not self._gateway.had_quorum_since(endpoint, since):
            await self._gateway.request_from(endpoint, QUORUM_READ, self._check_seconds)

    def _take(self, line: bytes) -> list[Event]:
        try:
            return self._read(msgspec.json.decode(line, type=dict[str, Any]))
        except (msgspec.MsgspecError, RecursionError) as error:  # truncated
            raise StoreUnavailable(f"the watch failed: {error}") from error
        except Malformed as error:
            raise StoreUnavailable(f"a watch response cannot be read: {error}") from error

    def _read(self, message: Json) -> list[Event]:
        answer = wire.watched(message)
        if reply_forms.flag(answer, "canceled"):
            raise _ended(answer)
        events = wire.events(answer)
        self._pause = INITIAL_PAUSE
        if events:
            self._next = events[-1].kv.mod_revision + 1
        elif not reply_forms.flag(answer, "created") or not self._next:
            # A progress notification means that all earlier events were delivered. The revision of
            # "created" means that only if the watch began there; that of events never does.
            self._next = wire.revision(answer) + 1
        return events


def _ended(answer: Json) -> StoreError:
    compacted = reply_forms.number(answer, "compact_revision")
    if compacted:
        return Compacted(compacted)
    said = reply_forms.shown(answer.get("cancel_reason")) or "no reason"
    reason = f"the watch was canceled: {said}"
    # Etcd 3.5 returns the same reason for an invalid token and for a key without permission.
    refused = isinstance(
        wire.error(503, {"message": reason}), AuthenticationFailed | PermissionDenied
    )
    return AuthenticationFailed(reason) if refused else StoreUnavailable(reason)
