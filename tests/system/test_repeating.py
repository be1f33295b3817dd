"""Repeated work: a transient error is logged once, any other ends it."""

import asyncio
from collections.abc import Callable

import pytest

from openvcha.system.repeating import repeat

pytestmark = pytest.mark.looptime


class Away(Exception):  # noqa: N818 - a state of the world
    """A transient error."""


class ScriptedWork:
    """Work that follows ``script``: each entry is a reason to fail, or the next pause."""

    def __init__(self, *script: str | float | None) -> None:
        self.script = list(script)
        self.times: list[float] = []
        self.told: list[str] = []
        self.clock = asyncio.get_running_loop().time

    async def attempt(self) -> float | None:
        self.times.append(self.clock())
        said = self.script.pop(0) if self.script else None
        if isinstance(said, str):
            raise Away(said)
        return said

    async def run(self, seconds: float) -> list[float]:
        """Repeat it for this long, with a pause of 2 seconds; return when each run began."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await repeat(self.attempt, 2.0, transient=(Away,), failed=self.told.append)
        return self.times


async def test_it_goes_on_whatever_passes() -> None:
    """After the same pause."""
    work = ScriptedWork("away", None, "away")
    assert await work.run(7) == [0, 2, 4, 6]


async def test_a_reason_is_told_once_until_it_is_another_or_all_was_well() -> None:
    """Otherwise the log of a bad night would be full of it."""
    work = ScriptedWork("away", "away", "full", "full", None, "full")
    await work.run(13)
    assert work.told == ["away", "full", "full"]


async def test_each_time_may_say_how_long_the_next_pause_is() -> None:
    """Including none."""
    assert await ScriptedWork(5.0, 0.0, None).run(8) == [0, 5, 5, 7]


@pytest.mark.parametrize("error", [ValueError, KeyError, asyncio.CancelledError, SystemExit])
async def test_whatever_else_it_raises_ends_it(error: Callable[[], BaseException]) -> None:
    """Its supervisor reports it."""

    async def broken() -> None:
        raise error()

    with pytest.raises(type(error())):
        await repeat(broken, 1.0, transient=(Away,))


async def test_the_pause_may_end_early() -> None:
    """By whatever else it waits for."""
    news, work = asyncio.Event(), ScriptedWork()

    async def pause(seconds: float) -> None:
        await asyncio.wait([asyncio.ensure_future(news.wait())], timeout=seconds)
        news.clear()

    running = asyncio.create_task(repeat(work.attempt, 10.0, pause=pause))
    await asyncio.sleep(3)
    news.set()
    await asyncio.sleep(8)
    assert work.times == [0, 3]
    running.cancel()
    await asyncio.wait([running])
