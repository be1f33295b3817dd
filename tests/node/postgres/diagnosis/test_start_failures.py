"""A node finds in its logs why its PostgreSQL does not start, or does not stream."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from openvcha.node.postgres import log
from openvcha.node.postgres.diagnosis import start_failures
from openvcha.node.postgres.diagnosis.start_failures import MAX_AGE, RECENT, Line, find_trouble
from openvcha.node.postgres.diagnosis.start_failures import diagnose as diagnose_lines
from openvcha.node.postgres.log import MAX_MESSAGE_LENGTH, Entry, sanitize
from openvcha.node.postgres.standby_data.pg_basebackup import (
    APPLICATION_NAME,
    ServerError,
    base_backup_error,
)
from openvcha.node.process.logs import wrap
from openvcha.store.node_facts import PostgresTrouble

NOW = datetime(2026, 11, 26, 18, 55, tzinfo=UTC)
MISSING = 'could not access file "timescaledb": No such file or directory'
FAILED = [
    "2026-11-26 18:54:41,369 INFO: restarting after failure in progress",
    f"2026-11-26 18:54:41.728 UTC [13720] FATAL:  {MISSING}",
    "2026-11-26 18:54:41.729 UTC [13720] LOG:  database system is shut down",
    "2026-11-26 18:54:41,890 INFO: postmaster pid=13720",
    "127.90.169.21:5432 - no response",
    "2026-11-26 18:54:43,917 ERROR: postmaster is not running",
]
"""Recorded from a real node."""
HEALTHY_LINE = (
    "2026-11-26 18:54:29,720 INFO: no action. I am (b-2), a secondary, and following a leader"
)
PAUSED_LINE = HEALTHY_LINE.replace("INFO: ", "INFO: PAUSE: ")
REFUSED_REWIND = "pg_rewind: error: could not fetch file"
UNLOGGED = [FAILED[0], *FAILED[3:]]
"""A start that failed after PostgreSQL had begun its own log."""


def diagnose(
    patroni: Sequence[str], server: Sequence[Entry], now: datetime
) -> PostgresTrouble | None:
    return diagnose_lines([Line(NOW, line) for line in patroni], server, now)


def entry(message: str, backend: str, seconds: float = 1, severity: str = "FATAL") -> Entry:
    return Entry(NOW - timedelta(seconds=seconds), severity, "XX000", message, "", backend)


def test_equal_failures_are_counted() -> None:
    """Since the last different one, or the last time the server ran."""
    told = diagnose([*FAILED, HEALTHY_LINE, *FAILED, *FAILED], [], NOW)
    assert told is not None
    assert (told.starts, told.times, told.reason, told.lines) == (True, 2, MISSING, (MISSING,))
    other = [line.replace("timescaledb", "other") for line in FAILED]
    told = diagnose([*FAILED, *other], [], NOW)
    assert told is not None
    assert told.times == 1
    assert "other" in told.reason


@pytest.mark.parametrize("line", [HEALTHY_LINE, PAUSED_LINE])
def test_a_node_that_runs_has_no_trouble(line: str) -> None:
    """Whatever happened before, also in MAINTENANCE."""
    assert diagnose([*FAILED, REFUSED_REWIND, line], [], NOW) is None
    assert diagnose([], [entry("no such slot", "walreceiver", 60)], NOW) is None


@pytest.mark.parametrize("lines", [FAILED, [REFUSED_REWIND]])
def test_a_failure_of_long_ago_is_not_the_reason(lines: list[str]) -> None:
    """The newest decides: how many there were before it still counts."""
    assert diagnose(lines, [], NOW + MAX_AGE) is not None
    assert diagnose(lines, [], NOW + MAX_AGE + timedelta(seconds=1)) is None
    earlier = [Line(NOW - 2 * MAX_AGE, line) for line in lines]
    told = diagnose_lines([*earlier, *(Line(NOW, line) for line in lines)], [], NOW)
    assert told is not None
    assert told.times == 2


def test_a_failure_in_the_server_s_own_log_is_found_there() -> None:
    """From the server's own processes, and only new lines."""
    log = [
        entry("long ago", "startup", 120),
        entry("invalid record", "startup"),
        entry("of a client", "client backend"),
    ]
    told = diagnose(UNLOGGED, log, NOW)
    assert told is not None
    assert (told.starts, told.reason) == (True, "invalid record")
    assert diagnose(UNLOGGED, [], NOW) is None


def test_a_receiver_that_is_refused_tells_why_it_does_not_stream() -> None:
    """The server runs then."""
    told = diagnose(
        [HEALTHY_LINE], [entry("no slot", "walreceiver"), entry("no slot", "walreceiver")], NOW
    )
    assert told is not None
    assert (told.starts, told.times, told.reason) == (False, 2, "no slot")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "psycopg.OperationalError: connection failed: FATAL:  permission denied for database x",
            "OperationalError: connection failed: FATAL: permission denied for database x",
        ),
        ("pg_rewind: error: could not fetch file", "pg_rewind: error: could not fetch file"),
    ],
)
def test_a_node_that_cannot_be_rewound_tells_why(line: str, reason: str) -> None:
    """Until it follows again."""
    told = diagnose([HEALTHY_LINE, line, line], [], NOW)
    assert told is not None
    assert (told.starts, told.times, told.reason) == (False, 2, reason)
    assert diagnose([line, HEALTHY_LINE], [], NOW) is None


def test_what_is_shown_is_short_and_without_passwords() -> None:
    """The logs belong to the node; every user sees the task."""
    assert sanitize("invalid primary_conninfo: user=r password=geheim host=a") == (
        "invalid primary_conninfo: user=r password=*** host=a"
    )
    assert "geheim" not in sanitize("Password = 'geh eim geheim' x")
    assert len(sanitize("x" * 10_000)) == MAX_MESSAGE_LENGTH
    assert sanitize("two\n lines") == "two lines"


def test_the_supervisor_s_records_are_read(tmp_path: Path) -> None:
    """A node without logs has no failure."""
    assert find_trouble(tmp_path) is None
    lines = [wrap("patroni", line.encode(), NOW.isoformat).decode() for line in FAILED]
    others = ['{"time": "t", "line": "x"}', '{"event": "other", "time": "2026-11-26T18:54:41Z"}']
    (tmp_path / "patroni.jsonl").write_text("\n".join([*others, *lines]))
    told = find_trouble(tmp_path, NOW)
    assert told is not None
    assert told.reason == MISSING


def test_the_server_s_last_word_of_a_copy_is_found() -> None:
    """Only from the copies' own sessions, since the copy began, and only what ended one."""

    def said(message: str, application: str = APPLICATION_NAME, severity: str = "ERROR") -> Entry:
        return Entry(NOW, severity, "XX000", message, application, "walsender")

    log = [said("of a copy"), said("of another", "psql"), said("told", severity="LOG")]
    assert base_backup_error(log, NOW) == ServerError("XX000", "of a copy")
    assert base_backup_error(log, NOW + timedelta(seconds=1)) is None


def test_a_node_reads_little_of_a_large_log_for_its_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A healthy one does so every few seconds, beside a server that may log every statement."""
    read: list[int] = []

    def errors(_: Path, since: datetime, max_bytes: int = log.MAX_BYTES) -> list[Entry]:
        assert since == NOW - RECENT
        read.append(max_bytes)
        return []

    monkeypatch.setattr(start_failures, "errors", errors)
    assert find_trouble(tmp_path, NOW) is None
    assert read == [2 << 20]
