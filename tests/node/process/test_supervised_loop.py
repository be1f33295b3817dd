"""Endless work is restarted whatever ends it, and the failure is reported."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from openvcha.node.process.backoff import Backoff
from openvcha.node.process.supervised_loop import MAX_REASON_LENGTH, BackgroundFailures, run_forever

pytestmark = pytest.mark.looptime

CALM = 30.0


class Log:
    """Records what is logged."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.well = 0

    def error(self, _: str, *, work: str, exc_info: BaseException) -> None:
        assert work == "work"
        self.broken.append(repr(exc_info))

    def info(self, _: str, *, work: str) -> None:
        assert work == "work"
        self.well += 1


class SupervisedRun:
    """Runs work under supervision, and records what was reported of it and each start."""

    def __init__(self, *ends: Callable[[], Awaitable[object]]) -> None:
        self.ends = list(ends)
        self.log: Any = Log()
        self.told: list[tuple[float, str | None]] = []
        self.begun: list[float] = []
        self.clock = asyncio.get_running_loop().time

    async def work(self) -> None:
        """End as the next of ``ends`` says; then go on for ever."""
        self.begun.append(self.clock())
        if self.ends:
            await self.ends.pop(0)()
        else:
            await asyncio.Event().wait()

    async def run(self, seconds: float) -> "asyncio.Task[None]":
        """Supervise it for some time; return the supervising task."""
        backoff = Backoff(first=1, longest=8, calm=CALM)

        def told(name: str, reason: str | None) -> None:
            assert name == "work"
            self.told.append((self.clock(), reason))

        running = asyncio.create_task(
            run_forever("work", self.work, self.log, report_health=told, backoff=backoff)
        )
        await asyncio.sleep(seconds)
        return running


async def end(running: "asyncio.Task[None]") -> None:
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


def raising(error: BaseException) -> Callable[[], Awaitable[object]]:
    async def work() -> None:
        raise error

    return work


async def coming_to_its_end() -> None:
    """Return: no error, but endless work must not end."""


async def canceled_by_another() -> None:
    """Wait for a task that is cancelled elsewhere: the error is that of our own cancellation."""
    inner = asyncio.get_running_loop().create_future()
    inner.cancel()
    await inner


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        (raising(ValueError("odd")), "ValueError: odd"),
        (raising(KeyError()), "KeyError"),
        (raising(SystemExit(3)), "SystemExit: 3"),
        (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
        (raising(BaseExceptionGroup("several", [SystemExit(1)])), "BaseExceptionGroup: several"),
        (raising(MemoryError()), "MemoryError"),
        (coming_to_its_end, "UnexpectedEnd: it ended"),
        (canceled_by_another, "CancelledError"),
    ],
    ids=["error", "no text", "exit", "interrupt", "group", "memory", "end", "canceled"],
)
async def test_whatever_ends_it_is_told_and_it_is_begun_anew(
    ends: Callable[[], Awaitable[object]], reason: str
) -> None:
    """Nothing ends it silently; once it has worked for a while that is reported too."""
    run = SupervisedRun(ends)
    running = await run.run(CALM + 2)
    assert run.begun == [0, 1]
    (first, told), (second, well) = run.told
    assert first == 0
    assert told
    assert told.startswith(reason)
    assert (second, well) == (1 + CALM, None)
    assert len(run.log.broken) == run.log.well == 1
    await end(running)


async def test_it_waits_longer_each_time() -> None:
    """Up to a limit: a persistent failure must not use up the CPU."""
    run = SupervisedRun(*[raising(ValueError("odd"))] * 6)
    await end(await run.run(40))
    assert run.begun == [0, 1, 3, 7, 15, 23, 31]


async def test_each_kind_of_failure_is_logged_once() -> None:
    """Even if its text has another number each time; a new kind is logged."""

    async def counting() -> None:
        raise ValueError(f"port {len(run.begun)}")

    run = SupervisedRun(counting, counting, raising(KeyError("other")), counting)
    await end(await run.run(16))
    assert run.log.broken == ["ValueError('port 1')", "KeyError('other')"]
    reasons = [reason for _, reason in run.told]
    assert reasons[-1] == "ValueError: port 4"


async def test_a_failure_after_calm_times_is_logged_again() -> None:
    """Weeks may lie between the two."""

    async def late() -> None:
        await asyncio.sleep(CALM + 5)
        raise ValueError("odd")

    run = SupervisedRun(raising(ValueError("odd")), late, late)
    await end(await run.run(3 * CALM))
    assert len(run.log.broken) == 3
    assert [reason for _, reason in run.told] == [
        "ValueError: odd",
        None,
        "ValueError: odd",
        None,
        "ValueError: odd",
    ]


async def test_it_ends_when_it_is_canceled() -> None:
    """At once, together with the work: even in the pause between two attempts."""
    ended = 0

    async def working() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    await end(await SupervisedRun(working).run(5))
    assert ended == 1
    run = SupervisedRun(raising(ValueError("odd")))
    await end(await run.run(0.5))
    assert len(run.begun) == 1


async def test_a_reason_is_bounded() -> None:
    """It is part of the cluster's health: others' text in it may be long."""
    run = SupervisedRun(raising(ValueError("x" * 10_000)))
    await end(await run.run(0.5))
    assert len(run.told[0][1] or "") == MAX_REASON_LENGTH + 1


def test_what_fails_is_known_until_it_goes_on() -> None:
    """By its name."""
    failing = BackgroundFailures()
    failing("one", "odd")
    failing("two", "odder")
    failing("one", None)
    failing("never failed", None)
    assert failing.reasons == {"two": "odder"}


def test_a_program_ends_all_the_same() -> None:
    """Closing the event loop under the work is no failure of it: the exception is not swallowed."""
    code = (
        "import asyncio, structlog\n"
        "from openvcha.node.process.supervised_loop import run_forever\n"
        "async def main():\n"
        "    work = run_forever('w', lambda: asyncio.sleep(1000), structlog.get_logger())\n"
        "    asyncio.create_task(work)\n"
        "    await asyncio.sleep(0.01)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
