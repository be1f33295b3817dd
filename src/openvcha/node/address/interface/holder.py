"""Holding the public address on an interface: ask first, add it for seconds, announce it.

Whoever wants the address says until when no other node can lead; the address is gone by then.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from openvcha.node.address.interface.kernel import Interface, Kernel
from openvcha.node.address.interface.lifetime import KERNEL_LATE_SECONDS, lifetime_until
from openvcha.node.address.interface.packets import Address, HeldAddress, Packets
from openvcha.node.address.interface.protocol import Answer, cannot
from openvcha.system.structlog_light import structlog

PROBES: Final = 3
PROBE_SECONDS: Final = 0.04
"""After each probe; a machine on the same network answers within a few milliseconds."""
ANNOUNCE_SECONDS: Final = (0.2, 0.8, 1.0)
"""The pauses before the next announcements; the first one is at once."""
AGAIN_SECONDS: Final = 1.0
"""The pause between later announcements, while a former holder could still answer."""
CHECK_SECONDS: Final = 5.0
"""How often the holder asks whether another machine answers for the address."""
CONFLICT_SECONDS: Final = 3.0
"""How long a claim of another machine counts; during a conflict each refresh asks again."""

Sleep = Callable[[float], Awaitable[object]]
OpenPackets = Callable[[str, bytes, Address], Packets]

_log = structlog.get_logger(__name__)


@dataclass
class _Holding:
    """One interface as it was when the address was acquired, its socket and what uses it."""

    interface: Interface
    packets: Packets
    listening: asyncio.Task[None]
    telling: asyncio.Task[None] | None = None


class Holder:
    """The only one that adds, refreshes and removes the address; not for concurrent calls.

    ``now`` is `lifetime.boot_time`.
    """

    def __init__(
        self,
        spec: HeldAddress,
        kernel: Kernel,
        open_packets: OpenPackets,
        *,
        now: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._spec = spec
        self._kernel = kernel
        self._open_packets = open_packets
        self._now = now
        self._sleep = sleep
        self._holding: _Holding | None = None
        self._claim: tuple[float, bytes] | None = None
        self._own: frozenset[bytes] = frozenset()

    async def acquire(self, until: float) -> Answer:
        """Acquire the address unless another machine answers for it; refresh it if we have it."""
        if self._holding:
            answer = await self.refresh(until)
            if answer.holds:
                return answer
        try:
            return await self._acquire(until)
        except OSError as error:
            await self._let_go()
            return cannot(f"{self._spec.interface}: {error.strerror or error}")

    async def refresh(self, until: float) -> Answer:
        """Refresh the address, and tell who has it; without a proof of leadership it ends."""
        if self._holding is None:
            return Answer(state="nobody")
        try:
            return await self._refresh(self._holding, until)
        except OSError as error:
            await self._let_go()
            return cannot(f"{self._spec.interface}: {error.strerror or error}")

    async def release(self) -> Answer:
        """Remove the address at once, whoever added it."""
        await self._let_go()
        try:
            interface = await self._kernel.interface(self._spec.interface)
            await self._kernel.delete(interface.index, self._spec.address)
        except OSError as error:
            return cannot(f"{self._spec.interface}: {error.strerror or error}")
        return Answer(state="nobody")

    async def check(self) -> Answer:
        """Return whether the interface could have the address; change nothing."""
        try:
            interface = await self._kernel.interface(self._spec.interface)
        except OSError as error:
            return cannot(f"{self._spec.interface}: {error.strerror or error}")
        if not interface.up:
            return cannot(f"{self._spec.interface} is down or has no carrier")
        return Answer(state="nobody")

    async def _acquire(self, until: float) -> Answer:
        if self._lifetime(until) is None:
            return cannot("it is not proven for long enough that this node leads")
        interface = await self._kernel.interface(self._spec.interface)
        if not interface.up:
            return cannot(f"{self._spec.interface} is down or has no carrier")
        self._own = await self._kernel.macs()
        await self._let_go()
        packets = self._open_packets(self._spec.interface, interface.mac, self._spec.address)
        listening = asyncio.create_task(self._listen(packets), name="claims of the address")
        self._holding = holding = _Holding(interface, packets, listening)
        self._claim = None
        for _ in range(PROBES):
            packets.probe()
            await self._sleep(PROBE_SECONDS)
            if mac := self._claimed():
                await self._let_go()
                return Answer(state="conflict", mac=mac)
        lifetime = self._lifetime(until)  # the probes took their time
        if lifetime is None:
            await self._let_go()
            return cannot("it is not proven for long enough that this node leads")
        await self._put(interface, lifetime)
        _log.info("the public address is held", address=str(self._spec.address))
        self._announce(holding)
        return Answer(state="held", holds=True)

    async def _refresh(self, holding: _Holding, until: float) -> Answer:
        interface = await self._kernel.interface(self._spec.interface)
        if not await self._kernel.has(interface.index, self._spec.address):
            _log.warning("the public address is gone", address=str(self._spec.address))
            await self._let_go()
            return Answer(state="nobody")
        lifetime = self._lifetime(until)
        if lifetime is not None:
            await self._put(interface, lifetime)
        if (interface.index, interface.mac) != (holding.interface.index, holding.interface.mac):
            await self._let_go()
            return cannot(f"{self._spec.interface} has been replaced")
        if not interface.up:
            holding.interface = interface
            return cannot(f"{self._spec.interface} is down or has no carrier", holds=True)
        if holding.listening.done() or not holding.interface.up:
            holding.interface = interface
            await self._listen_again(holding)
        if mac := self._claimed():
            self._tell(holding.packets)
            return Answer(state="conflict", mac=mac, holds=True)
        return Answer(state="held", holds=True)

    def _lifetime(self, until: float) -> int | None:
        return lifetime_until(self._now(), until, self._spec.lifetime)

    async def _put(self, interface: Interface, lifetime: int) -> None:
        spec = self._spec
        await self._kernel.put(interface.index, spec.address, spec.prefix, lifetime)

    async def _listen_again(self, holding: _Holding) -> None:
        """Listen and announce again after the interface was down: its neighbors forget."""
        if holding.listening.done():
            holding.listening = asyncio.create_task(
                self._listen(holding.packets), name="claims of the address"
            )
        await _ended(holding.telling)
        self._announce(holding)

    def _announce(self, holding: _Holding) -> None:
        self._tell(holding.packets)
        holding.telling = asyncio.create_task(
            self._keep_telling(holding.packets), name="announcements of the address"
        )

    async def _keep_telling(self, packets: Packets) -> None:
        """Announce a few times more, then ask now and then whether another machine answers."""
        former = self._now() + self._spec.lifetime + KERNEL_LATE_SECONDS
        for pause in ANNOUNCE_SECONDS:
            await self._sleep(pause)
            self._tell(packets)
        while True:
            could_answer = self._now() < former
            await self._sleep(AGAIN_SECONDS if could_answer else CHECK_SECONDS)
            if could_answer:
                self._tell(packets)
            else:
                with contextlib.suppress(OSError):
                    packets.probe()

    @staticmethod
    def _tell(packets: Packets) -> None:
        """Announce the address, and ask who else has it; the interface may be down meanwhile."""
        with contextlib.suppress(OSError):
            packets.announce()
            packets.probe()

    async def _listen(self, packets: Packets) -> None:
        with contextlib.suppress(OSError):  # the next refresh finds out why
            async with contextlib.aclosing(packets.claims()) as claims:
                async for mac in claims:
                    if mac in self._own:
                        continue  # another interface in the same network answers too
                    if not self._claimed():
                        _log.warning("another machine has the public address", mac=mac.hex(":"))
                    self._claim = self._now(), mac

    def _claimed(self) -> str:
        """Return the MAC of another machine that has claimed the address recently, or ``""``."""
        if self._claim is None or self._now() - self._claim[0] > CONFLICT_SECONDS:
            return ""
        return self._claim[1].hex(":")

    async def _let_go(self) -> None:
        """Remove the address if we have added it, and close what belongs to it."""
        holding, self._holding = self._holding, None
        self._claim = None
        if holding is None:
            return
        try:
            await self._kernel.delete(holding.interface.index, self._spec.address)
        except OSError as error:
            _log.warning("cannot remove the public address yet", reason=str(error))
        finally:
            await _ended(holding.telling)
            await _ended(holding.listening)
            holding.packets.close()


async def _ended(task: asyncio.Task[None] | None) -> None:
    """Cancel a task, and wait for its end."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
