"""One run for all concurrent callers: no caller gets a result older than its call."""

import asyncio
from contextvars import ContextVar
from itertools import count

import pytest

from openvcha.store.errors import StoreUnavailable
from openvcha.system.single_flight import SingleFlight


class Work:
    """Counts its runs; each ends when it is released."""

    def __init__(self) -> None:
        self.begun = self.running = self.most = self.canceled = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None
        self._numbers = count(1)

    async def __call__(self) -> int:
        number = next(self._numbers)
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.canceled += 1
            raise
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        return number


def ask(shared: SingleFlight[int], times: int = 1) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(shared()) for _ in range(times)]


async def settle() -> None:
    """Run everything that needs no event."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_asks_at_once_shares_one_run() -> None:
    work = Work()
    shared = SingleFlight(work)
    asked = ask(shared, 5)
    await settle()
    work.go.set()
    assert await asyncio.gather(*asked) == [1] * 5
    assert await shared() == 2


async def test_who_asks_during_a_run_gets_the_next_one() -> None:
    """The current run began before the call, and may not see what the caller has just done."""
    work = Work()
    shared = SingleFlight(work)
    first = ask(shared)
    await settle()
    later = ask(shared, 3)
    await settle()
    assert work.begun == 1
    work.go.set()
    assert await asyncio.gather(*first, *later) == [1, 2, 2, 2]
    assert work.most == 1


async def test_a_second_run_may_begin_beside_the_first() -> None:
    """And the third one waits until either has ended."""
    work = Work()
    shared = SingleFlight(work, 2)
    asked = []
    for number in (1, 2, 2):
        asked += ask(shared)
        await settle()
        assert work.begun == number
    work.go.set()
    assert await asyncio.gather(*asked) == [1, 2, 3]
    assert work.most == 2


async def test_a_run_does_not_belong_to_the_caller_who_began_it() -> None:
    """It serves all: what one caller's context says must not count for the others."""
    caller: ContextVar[str] = ContextVar("caller", default="nobody")

    async def who() -> str:
        return caller.get()

    caller.set("the first")
    assert await SingleFlight(who)() == "nobody"


async def test_an_error_is_everybodys_who_shares_the_run_and_nobody_elses() -> None:
    work = Work()
    shared = SingleFlight(work)
    work.error = StoreUnavailable("no quorum")
    work.go.set()
    found = await asyncio.gather(*ask(shared, 3), return_exceptions=True)
    assert found == [work.error] * 3
    work.error = None
    assert await shared() == 2


async def test_who_is_canceled_takes_nothing_from_the_others() -> None:
    """Even for the first caller, whose call began the run."""
    work = Work()
    shared = SingleFlight(work)
    first, second = ask(shared, 2)
    await settle()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.go.set()
    assert await second == 1
    assert not work.canceled


@pytest.mark.parametrize("asked", [1, 2])
async def test_a_run_that_nobody_waits_for_is_canceled(asked: int) -> None:
    """Even one that has not begun; a later caller starts a new one."""
    work = Work()
    shared = SingleFlight(work)
    running = ask(shared, asked)
    await settle()
    queued = ask(shared, asked)
    await settle()
    for task in (*queued, *running):
        task.cancel()
    await asyncio.gather(*queued, *running, return_exceptions=True)
    assert (work.begun, work.canceled, work.running) == (1, 1, 0)
    work.go.set()
    assert await shared() == 2
