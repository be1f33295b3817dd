"""An administrator at work: the replies that the API gives, and how long they take."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field

import httpx2
from bench.edge_attacks import ATTEMPT_SECONDS, PACE_SECONDS, SESSION, client

OFFICE = "127.0.0.9"
"""A source address that the attackers do not use."""
LOG_IN_SECONDS = 2.0
PATH = "/api/vcenter/vcha/cluster/mode"


@dataclass
class Seen:
    """What the administrator saw: the seconds of each successful request, and the failures."""

    reads: list[float] = field(default_factory=list)
    log_ins: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


async def work(
    host: str,
    token: str,
    auth: tuple[str, str],
    seconds: float,
    *,
    patience: float = ATTEMPT_SECONDS,
) -> Seen:
    """Read continuously in one session, and log in again every few seconds.

    Requests that were sent before the time is over are awaited.
    """
    seen, end = Seen(), time.monotonic() + seconds

    async def timed(into: list[float], what: str, call: Awaitable[httpx2.Response]) -> None:
        begun = time.monotonic()
        try:
            reply = await call
        except httpx2.TransportError as error:
            seen.failures[f"{what}: {type(error).__name__}"] += 1
            return
        if reply.is_success:
            into.append(time.monotonic() - begun)
        else:
            seen.failures[f"{what}: {reply.status_code}"] += 1

    async def read() -> None:
        async with client(host, OFFICE, patience) as own:
            while time.monotonic() < end:
                await timed(seen.reads, "read", own.get(PATH, headers={SESSION: token}))
                await asyncio.sleep(PACE_SECONDS)

    async def log_in() -> None:
        while time.monotonic() < end:
            async with client(host, OFFICE, patience) as new:
                await timed(seen.log_ins, "log-in", new.post("/api/session", auth=auth))
            await asyncio.sleep(LOG_IN_SECONDS)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds + patience):
            await asyncio.gather(read(), log_in())
    return seen
