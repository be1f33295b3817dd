"""Why this node's PostgreSQL does not start or does not stream, according to its logs.

A server that fails before it opens its own log writes to Patroni's output.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from openvcha.node.postgres.log import SEVERE, Entry, entries, sanitize, tail
from openvcha.node.process.logs import log_path
from openvcha.store.node_facts import PostgresTrouble

MAX_LINES = 5
RECENT = timedelta(seconds=30)
SERVER_LINE = re.compile(r"^\S+ \S+ \S+ \[\d+\] (?:FATAL|PANIC|ERROR):\s+(.*)$")
REWIND_LINE = re.compile(r"(pg_rewind: (?:error|fatal): .*|OperationalError: .*FATAL: .*)$")
"""Why a former primary cannot be rewound; it then waits until its data are copied again."""
FAILED = ("ERROR: postmaster is not running", "ERROR: failed to start postgres")
HEALTHY_LINE = "INFO: no action."
OWN_BACKENDS = frozenset({"postmaster", "startup"})
RECEIVER = "walreceiver"


def find_trouble(logs: Path, now: datetime | None = None) -> PostgresTrouble | None:
    """Return why a node's PostgreSQL does not run or stream, from its logs; None if unknown."""
    lines = [_line(line) for line in tail(log_path(logs, "patroni"))]
    return diagnose(lines, entries(logs), now or datetime.now(UTC))


def diagnose(
    patroni: Iterable[str], server: Sequence[Entry], now: datetime
) -> PostgresTrouble | None:
    """Return why the last starts failed, and how many; otherwise why it does not stream."""
    starts: list[list[str]] = []
    said: list[str] = []
    rewinds: list[str] = []
    for line in patroni:
        if HEALTHY_LINE in line:
            starts, said, rewinds = [], [], []
        elif found := REWIND_LINE.search(line):
            rewinds.append(sanitize(found[1]))
        elif found := SERVER_LINE.match(line):
            said.append(sanitize(found[1]))
        elif any(sign in line for sign in FAILED):
            starts.append(said)
            said = []
    recent = [each for each in server if each.severity in SEVERE and now - each.time < RECENT]
    if not starts:
        return _not_streaming(rewinds or [e.message for e in recent if e.backend == RECEIVER])
    if not starts[-1]:
        starts[-1] = [each.message for each in recent if each.backend in OWN_BACKENDS]
    return _not_starting([said for said in starts if said])


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


def _line(logged: str) -> str:
    """Return a program's own line from the supervisor's record of it."""
    try:
        return str(msgspec.json.decode(logged, type=dict[str, object]).get("line", ""))
    except msgspec.DecodeError:
        return ""
