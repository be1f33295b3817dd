"""What a node's main program tells systemd: that it is ready, and that it goes on.

The protocol is one datagram for each message to the socket that NOTIFY_SOCKET names. Outside a unit
of the type ``notify`` there is no such variable, and nothing is told.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

READY = "READY=1"
ALIVE = "WATCHDOG=1"
BEATS_PER_TIMEOUT = 3
MICROSECONDS = 1_000_000

Send = Callable[[str, str], None]
Sleep = Callable[[float], Awaitable[object]]


def send(address: str, text: str) -> None:
    """Send one message; never block, and never fail: a deaf service manager ends no node."""
    name = f"\0{address[1:]}" if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.sendto(text.encode(), name)


class ServiceManager:
    """The service manager that started this program, if one did."""

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        *,
        pid: int | None = None,
        send: Send = send,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._timeout = _timeout(environment, os.getpid() if pid is None else pid)
        self._send = send
        self._sleep = sleep

    @property
    def beat_seconds(self) -> float | None:
        """Return the pause between two signs of life; None if nobody waits for any."""
        return self._timeout / BEATS_PER_TIMEOUT if self._timeout and self._address else None

    @contextlib.asynccontextmanager
    async def informed(self) -> AsyncIterator[None]:
        """Tell that this program is ready, and until the block ends that its loop still runs."""
        self._tell(READY)
        beating = asyncio.create_task(self._beat(), name="watchdog of the service manager")
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait([beating])

    async def _beat(self) -> None:
        while self.beat_seconds:
            self._tell(ALIVE)
            await self._sleep(self.beat_seconds)

    def _tell(self, text: str) -> None:
        if self._address:
            self._send(self._address, text)


def _timeout(environment: Mapping[str, str], pid: int) -> float | None:
    """Return after how many seconds of silence this process is killed; None if it is not."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        return int(environment["WATCHDOG_USEC"]) / MICROSECONDS or None
    except (KeyError, ValueError):
        return None
