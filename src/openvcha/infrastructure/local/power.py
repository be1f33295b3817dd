"""Power of a local VM: it is on while a process of its directory runs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.infrastructure.local.files import make_directory, tail
from openvcha.infrastructure.local.processes import ProcessTable, Starter, StartFailed, started_at


@dataclass(frozen=True)
class PowerTimeouts:
    """Timeouts in seconds; `poll` is the interval between checks."""

    poll: float = 0.02
    power_on: float = 120.0
    power_off: float = 30.0
    busy: float = 90.0


class PowerSwitch:
    """A switch for VMs, by their directories."""

    def __init__(self, processes: ProcessTable, starter: Starter, timeouts: PowerTimeouts) -> None:
        self._processes = processes
        self._starter = starter
        self._timeouts = timeouts

    async def is_on(self, directory: Path) -> bool:
        """Return whether any process of the VM is running."""
        return bool(await self._find(directory))

    async def are_on(self, directories: Sequence[Path]) -> list[bool]:
        """Return the same for several VMs at once, since each scan walks all of /proc."""
        found = await asyncio.to_thread(self._processes.find_each, directories)
        return [bool(pids) for pids in found]

    async def switch_on(self, directory: Path, name: str) -> None:
        """Start the supervisor unless it is running; after a failed start the VM is off.

        Raises ApiError: ERROR when it ended at once, TIMED_OUT.
        """
        if await self._supervised(directory):
            return
        console = directory / "logs" / "console.log"
        before = await asyncio.to_thread(_prepare, console)
        try:
            up = await self._start(directory, console)
        except TimeoutError:
            await self.switch_off(directory, name)
            words = await asyncio.to_thread(_last_words, console, before)
            late = message("infrastructure.power.on.late", name, self._timeouts.power_on, words)
            fail(ErrorType.TIMED_OUT, late)
        if not up:
            await self.switch_off(directory, name)
            words = await asyncio.to_thread(_last_words, console, before)
            fail(ErrorType.ERROR, message("infrastructure.power.died", name, words))

    async def switch_off(self, directory: Path, name: str) -> None:
        """Kill all processes; return when none is left. Raises ApiError TIMED_OUT."""
        try:
            async with asyncio.timeout(self._timeouts.power_off):
                await self._processes.kill(directory)
                while await self._find(directory):
                    await asyncio.sleep(self._timeouts.poll)
                    await self._processes.kill(directory)
        except TimeoutError:
            left = ", ".join(map(str, await self._find(directory)))
            limit = self._timeouts.power_off
            fail(ErrorType.TIMED_OUT, message("infrastructure.power.off.late", name, limit, left))

    async def _start(self, directory: Path, console: Path) -> bool:
        """Start the supervisor, wait, and return whether it is up. Raises TimeoutError."""
        try:
            # Outside the timeout: to kill a started process, its pid must be known.
            pid = await self._starter(directory, console)
        except StartFailed:
            return False
        start = started_at(pid)
        async with asyncio.timeout(self._timeouts.power_on):
            while not await self._supervised(directory):
                if start is None or started_at(pid) != start:
                    return await self._supervised(directory)
                await asyncio.sleep(self._timeouts.poll)
        return True

    async def _supervised(self, directory: Path) -> bool:
        """Return whether the process that claims to be the supervisor belongs to the VM."""
        try:
            text = await asyncio.to_thread((directory / "run" / "supervisor.pid").read_text)
            return int(text) in await self._find(directory)
        except (FileNotFoundError, ValueError):
            # Missing or incomplete: the file counts only once it holds a number.
            return False

    async def _find(self, directory: Path) -> list[int]:
        return await asyncio.to_thread(self._processes.find, directory)


def _prepare(console: Path) -> int:
    """Return the size of the console's log, where new output will begin."""
    make_directory(console.parent)
    return console.stat().st_size if console.exists() else 0


def _last_words(console: Path, start: int) -> str:
    return tail(console, start) or "(none)"
