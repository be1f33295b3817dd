"""The end of PostgreSQL's log, as records."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

TAIL_BYTES = 256 << 10
MAX_MESSAGE_LENGTH = 300
SEVERE = frozenset({"ERROR", "FATAL", "PANIC"})
_PASSWORD = re.compile(r"(password\s*=\s*)('[^']*'|\S+)", re.IGNORECASE)
_CSV_COLUMNS = 24
_JSON_NAMES = {
    "error_severity": 11,
    "state_code": 12,
    "message": 13,
    "application_name": 22,
    "backend_type": 23,
}
"""Field names of the JSON log, with their columns in the CSV log."""


@dataclass(frozen=True)
class Entry:
    """One record. ``state`` is the SQLSTATE; ``message`` is bounded and contains no password."""

    time: datetime
    severity: str
    state: str
    message: str
    application: str
    backend: str


def sanitize(text: str) -> str:
    """Return text from the log for display: without passwords, on one short line."""
    shown = _PASSWORD.sub(r"\1***", " ".join(text.split()))
    return shown if len(shown) <= MAX_MESSAGE_LENGTH else shown[: MAX_MESSAGE_LENGTH - 1] + "…"


def entries(folder: Path) -> list[Entry]:
    """Return the records at the end of the newest log in a folder; skip other lines."""
    logs = [*folder.glob("postgresql-*.json"), *folder.glob("postgresql-*.csv")]
    found = sorted((_changed(path), path) for path in logs)
    if not found:
        return []
    newest = found[-1][1]
    lines = tail(newest)
    return list(_from_json(lines) if newest.suffix == ".json" else _from_csv(lines))


def tail(path: Path, size: int = TAIL_BYTES) -> list[str]:
    """Return the last complete lines of a file; none if it does not exist."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, io.SEEK_END)
            file.seek(max(0, end - size))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return lines[1:] if end > size else lines


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _from_json(lines: list[str]) -> Iterator[Entry]:
    for line in lines:
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
            at = _time(str(fields["timestamp"]))
        except (msgspec.DecodeError, KeyError, ValueError):
            continue
        text = {name: str(fields.get(name, "")) for name in _JSON_NAMES}
        yield _entry(at, text)


def _from_csv(lines: list[str]) -> Iterator[Entry]:
    for row in csv.reader(lines):
        if len(row) < _CSV_COLUMNS:
            continue
        try:
            at = _time(row[0])
        except ValueError:
            continue
        yield _entry(at, {name: row[column] for name, column in _JSON_NAMES.items()})


def _entry(at: datetime, fields: Mapping[str, str]) -> Entry:
    return Entry(
        time=at,
        severity=fields["error_severity"],
        state=fields["state_code"],
        message=sanitize(fields["message"]),
        application=fields["application_name"],
        backend=fields["backend_type"],
    )


def _time(text: str) -> datetime:
    """Parse a time in UTC; the log has no offsets for other zones, so they cannot be compared."""
    moment, _, zone = text.rpartition(" ")
    if zone not in {"UTC", "GMT"}:
        raise ValueError(f"{zone} is not a known time zone")
    return datetime.fromisoformat(moment).replace(tzinfo=UTC)
