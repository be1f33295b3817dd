"""Background work that runs forever: restarted whenever it ends, and never silently.

A background task that raises ends silently: asyncio reports the exception only when the task is
awaited, which does not happen while the program runs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from openvcha.node.process.backoff import Backoff
from openvcha.node.process.logs import Logger

MAX_REASON_LENGTH = 200

Work = Callable[[], Awaitable[object]]
HealthReporter = Callable[[str, str | None], None]
"""Takes the name of the work, and why it is failing; None when it runs well."""


class BackgroundFailures:
    """The failing background jobs of a program, by name, and those of another program."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._others: dict[str, str] = {}

    def __call__(self, name: str, reason: str | None) -> None:
        """Record that a job fails, or runs well (None)."""
        if reason is None:
            self._reasons.pop(name, None)
        else:
            self._reasons[name] = reason

    def note_others(self, reasons: Mapping[str, str]) -> None:
        """Record all failures of the other program."""
        self._others = dict(reasons)

    @property
    def own(self) -> dict[str, str]:
        """Return this program's failures, with the reasons."""
        return dict(self._reasons)

    @property
    def reasons(self) -> dict[str, str]:
        """Return the failures of both programs, with the reasons."""
        return {**self._others, **self._reasons}


async def run_forever(
    name: str,
    work: Work,
    log: Logger,
    *,
    report_health: HealthReporter = lambda *_: None,
    backoff: Backoff | None = None,
) -> None:
    """Run ``work`` and restart it until canceled, with a pause that grows while it fails.

    Any exception is a failure, even one that ends a program, or a cancellation that did not come
    from this task; returning is a failure too. Each kind of failure is logged once until the work
    has run for ``backoff.calm`` seconds, and ``report_health`` has the last reason until then.
    """
    pauses, shown, failing = backoff or Backoff(), set[object](), False
    clock = asyncio.get_running_loop().time
    while True:
        began = clock()
        running = asyncio.ensure_future(_outcome(work))
        try:
            ended, _ = await asyncio.wait([running], timeout=pauses.calm if failing else None)
            if not ended:
                shown, failing = set(), False
                report_health(name, None)
                log.info("background work recovered", work=name)
            failure = await running
        except BaseException:
            running.cancel()
            await asyncio.wait([running])
            raise
        if clock() - began >= pauses.calm:
            shown = set()
        if (kind := _kind(failure)) not in shown:
            shown.add(kind)
            log.error("background work failed", work=name, exc_info=failure)
        failing = True
        report_health(name, _reason(failure))
        await asyncio.sleep(pauses.pause(clock() - began))


class UnexpectedEnd(Exception):  # noqa: N818 - named after the outcome
    """Work that should run forever has returned."""


async def _outcome(work: Work) -> BaseException:
    """Run it once; return how it ended. Raises only what ends this task itself."""
    try:
        await work()
    except GeneratorExit:
        raise
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        return error
    except BaseException as error:  # noqa: BLE001 - report even an exception that ends a program
        return error
    return UnexpectedEnd("it ended")


def _kind(failure: BaseException) -> object:
    """Return the type and location of a failure, by which failures are logged only once."""
    trace = failure.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place: Any = (trace.tb_frame.f_code, trace.tb_lineno) if trace else None
    return type(failure), place


def _reason(failure: BaseException) -> str:
    text = f"{type(failure).__name__}: {failure}" if str(failure) else type(failure).__name__
    return text if len(text) <= MAX_REASON_LENGTH else text[:MAX_REASON_LENGTH] + "…"
