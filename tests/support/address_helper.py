"""The helper that holds a public address, with a simulated holder, at a socket of the test."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import cast

from openvcha.node.address.interface.holder import Holder
from openvcha.node.address.interface.packets import HeldAddress
from openvcha.node.address.interface.protocol import Answer
from openvcha.node.address.interface.server import HelperServer

ADDRESS = HeldAddress("eth0", ip_address("192.0.2.10"), 32, 6)


class SimulatedHolder:
    """SIMULATED: an address that is there while it is held, and what was asked."""

    def __init__(self) -> None:
        self.holds = False
        self.asked: list[tuple[str, float]] = []
        self.refuses: Answer | None = None
        self.delay = 0.0
        self.stop = asyncio.Event()

    async def acquire(self, until: float) -> Answer:
        """Acquire it, unless the test has another answer."""
        self.asked.append(("acquire", until))
        if self.delay:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.delay):
                    await self.stop.wait()
        self.holds = self.refuses is None
        return self.refuses or Answer(state="held", holds=True)

    async def refresh(self, until: float) -> Answer:
        """Refresh it."""
        self.asked.append(("refresh", until))
        return Answer(state="held" if self.holds else "nobody", holds=self.holds)

    async def check(self) -> Answer:
        """Return what prevents it; change nothing."""
        self.asked.append(("check", 0.0))
        return self.refuses or Answer(state="nobody")

    async def release(self) -> Answer:
        """Release it."""
        self.asked.append(("release", 0.0))
        self.holds = False
        return Answer(state="nobody")


@asynccontextmanager
async def helping(path: Path, uid: int | None = None) -> AsyncIterator[SimulatedHolder]:
    """Serve at a path during a block, for this account or another one (and root)."""
    holder = SimulatedHolder()
    server = HelperServer(ADDRESS, cast("Holder", holder), os.geteuid() if uid is None else uid)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)
        serving = asyncio.create_task(server.serve(listener))
        try:
            yield holder
        finally:
            serving.cancel()
            await asyncio.wait([serving])
            os.unlink(path)  # noqa: PTH108 - Path would count as blocking
    assert not holder.holds
