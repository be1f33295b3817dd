"""The last errors of PostgreSQL's log are found, whatever else users have it log."""

import csv
import io
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from openvcha.node.postgres import log
from openvcha.node.postgres.log import Entry, errors

AT = datetime(2026, 11, 26, 18, 54, 46, tzinfo=UTC)
SINCE = AT - timedelta(seconds=30)


ROW = {
    "timestamp": "2026-11-26 18:54:46.009 UTC",
    "error_severity": "ERROR",
    "state_code": "XX000",
    "message": "invalid segment number 0",
    "application_name": "openvcha_copy",
    "backend_type": "walsender",
}


def write(path: Path, text: str, seconds: float = 60) -> None:
    """Write a log that was changed so long after AT."""
    path.write_text(text)
    os.utime(path, (AT.timestamp() + seconds,) * 2)


def as_csv(record: dict[str, str] = ROW) -> str:
    row = [""] * 26
    for at, name in zip((0, 11, 12, 13, 22, 23), record, strict=True):
        row[at] = record[name]
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("postgresql-Thu.json", json.dumps(ROW) + '\n{"half a rec'),
        ("postgresql-Thu.csv", as_csv() + "half,a rec"),
    ],
)
def test_both_forms_of_the_log_are_read(tmp_path: Path, name: str, text: str) -> None:
    """jsonlog was added in version 15."""
    assert errors(tmp_path, SINCE) == []
    write(tmp_path / name, "no record\n" + text)
    at = datetime(2026, 11, 26, 18, 54, 46, 9000, tzinfo=UTC)
    expected = Entry(at, "ERROR", "XX000", "invalid segment number 0", "openvcha_copy", "walsender")
    assert errors(tmp_path, SINCE) == [expected]


def as_json(record: dict[str, str]) -> str:
    return json.dumps(record) + "\n"


def record(at: datetime, message: str, severity: str = "ERROR") -> dict[str, str]:
    shown = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03} UTC"
    return ROW | {"timestamp": shown, "message": message, "error_severity": severity}


def statements(form: Callable[[dict[str, str]], str], begin: datetime, size: int) -> str:
    """Return what log_statement=all writes, one statement in each millisecond."""
    lines: list[str] = []
    written = 0
    while written < size:
        at = begin + timedelta(milliseconds=len(lines))
        lines.append(form(record(at, "select " + "1" * 200, "LOG")))
        written += len(lines[-1])
    return "".join(lines)


def messages(found: list[Entry]) -> list[str]:
    return [each.message for each in found]


FORMS = pytest.mark.parametrize(
    ("suffix", "form"), [(".json", as_json), (".csv", as_csv)], ids=["json", "csv"]
)


@FORMS
def test_an_error_before_many_statements_is_found(
    tmp_path: Path, suffix: str, form: Callable[[dict[str, str]], str]
) -> None:
    """And none from before the time that is asked for."""
    old = form(record(SINCE - timedelta(seconds=1), "old"))
    before = statements(form, SINCE - timedelta(seconds=60), 3 * log.TAIL_BYTES)
    after = statements(form, AT, 3 * log.TAIL_BYTES)
    text = before + old + form(record(AT, "why")) + after
    write(tmp_path / f"postgresql-Thu{suffix}", text)
    assert messages(errors(tmp_path, SINCE)) == ["why"]
    assert messages(errors(tmp_path, AT + timedelta(seconds=1))) == []


@FORMS
def test_an_error_before_midnight_is_found(
    tmp_path: Path, suffix: str, form: Callable[[dict[str, str]], str]
) -> None:
    """Another log begins then. A log of another day is not read."""
    for day, (weekday, text) in enumerate({"Tue": "of old", "Wed": "why", "Thu": "more"}.items()):
        path = tmp_path / f"postgresql-{weekday}{suffix}"
        write(path, form(record(AT + timedelta(seconds=day), text)), seconds=day)
    assert messages(errors(tmp_path, SINCE)) == ["why", "more"]


def test_a_log_is_not_read_without_a_bound(tmp_path: Path) -> None:
    """Everything of a busy day is too much."""
    text = as_json(record(AT, "far")) + statements(as_json, AT, 3 * log.TAIL_BYTES)
    write(tmp_path / "postgresql-Thu.json", text + as_json(record(AT, "near")))
    assert messages(errors(tmp_path, SINCE, 2 * log.TAIL_BYTES)) == ["near"]


def test_a_row_that_csv_cannot_read_hides_no_other(tmp_path: Path) -> None:
    """Its statement is longer than a field may be."""
    long = as_csv(record(AT, "x" * (csv.field_size_limit() + 1)))
    text = as_csv(record(AT, "one")) + long + as_csv(record(AT, "two"))
    write(tmp_path / "postgresql-Thu.csv", text)
    found = messages(errors(tmp_path, SINCE))
    assert (found[0], found[-1]) == ("one", "two")
