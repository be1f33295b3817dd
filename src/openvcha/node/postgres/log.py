"""The last errors in PostgreSQL's log, as records."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

TAIL_BYTES = 256 << 10
MAX_BYTES = 32 << 20
"""Read of a log at most, also if users log every statement."""
FILES = 2
"""The newest logs: another one begins at midnight."""
PROBE_BYTES = 64 << 10
MAX_MESSAGE_LENGTH = 300
SEVERE = frozenset({"ERROR", "FATAL", "PANIC"})
_SIGNS = tuple(severity.encode() for severity in SEVERE)
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


def errors(folder: Path, since: datetime, max_bytes: int = MAX_BYTES) -> list[Entry]:
    """Return the records of ERROR, FATAL and PANIC since a time from the logs in a folder.

    Other lines are skipped. It reads the newest logs only, of each at most the last ``max_bytes``.
    """
    logs = [*folder.glob("postgresql-*.json"), *folder.glob("postgresql-*.csv")]
    newest = sorted((_changed(path), path) for path in logs)[-FILES:]
    found = (entry for changed, path in newest for entry in _since(path, changed, since, max_bytes))
    return [entry for entry in found if entry.severity in SEVERE and entry.time >= since]


def _since(path: Path, changed: float, since: datetime, max_bytes: int) -> Iterator[Entry]:
    if changed < since.timestamp():
        return
    try:
        with path.open("rb") as file:
            _seek(file, path, since, max_bytes)
            yield from _parse(path)(_lines(path, file))
    except OSError:
        return


def _seek(file: BinaryIO, path: Path, since: datetime, max_bytes: int) -> None:
    """Go to a line from before a time, or as far back as is read at most."""
    end = file.seek(0, io.SEEK_END)
    size = TAIL_BYTES
    while size < min(end, max_bytes):
        file.seek(end - size)
        probed = file.read(PROBE_BYTES).splitlines()[1:-1]
        if any(_is_before(path, line, since) for line in probed):
            break
        size *= 2
    file.seek(max(0, end - min(size, max_bytes)))
    if size < end:
        file.readline()  # the rest of a line


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """Yield lines; of a JSON log, where each line is a record, only those that may be errors."""
    for line in file:
        if path.suffix != ".json" or any(sign in line for sign in _SIGNS):
            yield line.decode(errors="replace")


def _is_before(path: Path, line: bytes, since: datetime) -> bool:
    return any(entry.time < since for entry in _parse(path)([line.decode(errors="replace")]))


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


def _parse(path: Path) -> Callable[[Iterable[str]], Iterator[Entry]]:
    return _from_json if path.suffix == ".json" else _from_csv


def _from_json(lines: Iterable[str]) -> Iterator[Entry]:
    for line in lines:
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
            at = _time(str(fields["timestamp"]))
        except (msgspec.DecodeError, KeyError, ValueError):
            continue
        text = {name: str(fields.get(name, "")) for name in _JSON_NAMES}
        yield _entry(at, text)


def _from_csv(lines: Iterable[str]) -> Iterator[Entry]:
    for row in _rows(lines):
        if len(row) < _CSV_COLUMNS:
            continue
        try:
            at = _time(row[0])
        except ValueError:
            continue
        yield _entry(at, {name: row[column] for name, column in _JSON_NAMES.items()})


def _rows(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the rows of a CSV log; skip those that cannot be read, e.g. with a long statement."""
    reader = csv.reader(lines)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            continue


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
