"""Why this node's PostgreSQL does not start or does not stream, according to its logs.

A server that fails before it opens its own log writes to Patroni's output.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.postgres.log import SEVERE, Entry, errors, sanitize, tail
from openvcha.node.process.logs import log_path
from openvcha.store.node_facts import PostgresTrouble

MAX_LINES = 5
MAX_LOG_BYTES = 2 << 20
"""Read of each log of the server at most: a healthy node reads them every few seconds, too."""
RECENT = timedelta(seconds=30)
MAX_AGE = timedelta(minutes=10)
"""An older failure is no longer the reason. Starts that fail after long recoveries may be rare."""
SERVER_LINE = re.compile(r"^\S+ \S+ \S+ \[\d+\] (?:FATAL|PANIC|ERROR):\s+(.*)$")
REWIND_LINE = re.compile(r"(pg_rewind: (?:error|fatal): .*|OperationalError: .*FATAL: .*)$")
"""Why a former primary cannot be rewound; it then waits until its data are copied again."""
FAILED = ("ERROR: postmaster is not running", "ERROR: failed to start postgres")
HEALTHY_LINE = re.compile(r"INFO: (?:PAUSE: )?no action\.")
OWN_BACKENDS = frozenset({"postmaster", "startup"})
RECEIVER = "walreceiver"


class Line(NamedTuple):
    """A line of Patroni's output, and when the node read it."""

    time: datetime
    text: str


class _Failure(NamedTuple):
    time: datetime
    said: list[str]


class _Record(msgspec.Struct):
    time: datetime
    line: str


_RECORD = msgspec.json.Decoder(_Record)


def find_trouble(logs: Path, now: datetime | None = None) -> PostgresTrouble | None:
    """Return why a node's PostgreSQL does not run or stream, from its logs; None if unknown."""
    lines = (_line(line) for line in tail(log_path(logs, "patroni")))
    read = [line for line in lines if line is not None]
    now = now or datetime.now(UTC)
    return diagnose(read, errors(logs, now - RECENT, MAX_LOG_BYTES), now)


def diagnose(
    patroni: Iterable[Line], server: Sequence[Entry], now: datetime
) -> PostgresTrouble | None:
    """Return why the last starts failed, and how many; otherwise why it does not stream.

    Only failures since Patroni last found nothing to do, the newest at most MAX_AGE old.
    """
    starts: list[_Failure] = []
    said: list[str] = []
    rewinds: list[_Failure] = []
    for time, text in patroni:
        if HEALTHY_LINE.search(text):
            starts, said, rewinds = [], [], []
        elif found := REWIND_LINE.search(text):
            rewinds.append(_Failure(time, [sanitize(found[1])]))
        elif found := SERVER_LINE.match(text):
            said.append(sanitize(found[1]))
        elif any(sign in text for sign in FAILED):
            starts.append(_Failure(time, said))
            said = []
    recent = [each for each in server if each.severity in SEVERE and now - each.time < RECENT]
    if not _is_current(starts, now):
        refused = [line for failure in rewinds for line in failure.said]
        current = refused if _is_current(rewinds, now) else []
        return _not_streaming(current or [e.message for e in recent if e.backend == RECEIVER])
    if not starts[-1].said:
        starts[-1].said.extend(each.message for each in recent if each.backend in OWN_BACKENDS)
    return _not_starting([failure.said for failure in starts if failure.said])


def _is_current(failures: Sequence[_Failure], now: datetime) -> bool:
    return bool(failures) and now - failures[-1].time <= MAX_AGE


def _not_starting(starts: Sequence[Sequence[str]]) -> PostgresTrouble | None:
    if not starts:
        return None
    reason = starts[-1][-1]
    different = (n for n, said in enumerate(reversed(starts)) if said[-1] != reason)
    equal = next(different, len(starts))
    lines = tuple(starts[-1][-MAX_LINES:])
    return PostgresTrouble(starts=True, times=equal, reason=reason, lines=lines)


def _not_streaming(said: Sequence[str]) -> PostgresTrouble | None:
    if not said:
        return None
    return PostgresTrouble(starts=False, times=said.count(said[-1]), reason=said[-1])


def _line(logged: str) -> Line | None:
    """Return a program's own line from the supervisor's record of it; None for any other record."""
    try:
        record = _RECORD.decode(logged)
    except msgspec.DecodeError:
        return None
    return Line(record.time, record.line) if record.time.tzinfo else None


prepare(__name__)
