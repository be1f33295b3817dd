"""Work that goes on for ever: begun anew whenever it ends, and never ended without a word.

A background task that raises ends silently: asyncio tells of it when somebody awaits it, which
nobody does as long as the program runs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from openvcha.node.process.backoff import Backoff
from openvcha.node.process.logs import Logger

LONGEST_REASON = 200

Work = Callable[[], Awaitable[object]]
Told = Callable[[str, str | None], None]
"""Takes the name of the work, and why it fails now; None when it goes on well."""


class Failing:
    """What fails now of a program's background work, by its name, and of another program's."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._others: dict[str, str] = {}

    def __call__(self, name: str, reason: str | None) -> None:
        """Take note that work fails, or goes on well."""
        if reason is None:
            self._reasons.pop(name, None)
        else:
            self._reasons[name] = reason

    def note_others(self, reasons: Mapping[str, str]) -> None:
        """Take note of all that fails now in the other program."""
        self._others = dict(reasons)

    @property
    def own(self) -> dict[str, str]:
        """Return why each one of this program fails."""
        return dict(self._reasons)

    @property
    def reasons(self) -> dict[str, str]:
        """Return why each one fails, of both programs."""
        return {**self._others, **self._reasons}


async def for_ever(
    name: str,
    work: Work,
    log: Logger,
    *,
    told: Told = lambda *_: None,
    backoff: Backoff | None = None,
) -> None:
    """Do it again and again until canceled, with a pause that grows while it fails.

    It fails by anything that it raises, also by what ends a program, or by being canceled though
    nobody has canceled this; coming to its end is none of its business either. Each kind of
    failure is logged once until it has gone on well for as long as ``backoff`` calls calm, and so
    long ``told`` knows of the last one.
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
                told(name, None)
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
        told(name, _reason(failure))
        await asyncio.sleep(pauses.pause(clock() - began))


class Ended(Exception):  # noqa: N818 - says what happened
    """Work that was to go on for ever came to its end."""


async def _outcome(work: Work) -> BaseException:
    """Do it once; return how it ended. Raises only what ends this task itself."""
    try:
        await work()
    except GeneratorExit:
        raise
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        return error
    except BaseException as error:  # noqa: BLE001 - also what ends a program shall be told
        return error
    return Ended("it ended")


def _kind(failure: BaseException) -> object:
    """Return what failures have in common that differ in numbers only: their kind and place."""
    trace = failure.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place: Any = (trace.tb_frame.f_code, trace.tb_lineno) if trace else None
    return type(failure), place


def _reason(failure: BaseException) -> str:
    text = f"{type(failure).__name__}: {failure}" if str(failure) else type(failure).__name__
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "…"
