"""The logs of a node: one file per part, in three formats, merged into one stream of lines."""

import asyncio
import datetime as dt
import os
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

POLL_SECONDS = 0.2
TAIL_BYTES = 512 << 10
POSTGRESQL = "postgresql"
CONSOLE = "console.log"  # the output of a supervisor that cannot start
_SUFFIXES = frozenset({".jsonl", ".json", ".csv"})
_NOT_SHOWN = {"level", "time", "ts", "event", "msg", "message", "part", "line", "caller", "logger"}
_OWN_TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d+ ")


@dataclass(frozen=True)
class Line:
    """One line of a log; ``raw`` is the line in the file."""

    time: dt.datetime
    part: str
    level: str
    text: str
    raw: str


def parts(logs: Path) -> list[str]:
    """Return the parts for which a node has logs."""
    return sorted({_part(path) for path in _files(logs)})


def last_lines(logs: Path, part: str | None, count: int) -> list[Line]:
    """Return the last lines of a node's parts, by time."""
    found = [line for path in _files(logs, part) for line in _tail(path)]
    return sorted(found, key=_when)[-count:] if count else []


async def follow(logs: Path, part: str | None) -> AsyncIterator[Line]:
    """Yield new lines forever, also from new and rotated files."""
    reading = {path: _Reading(path, path.stat().st_size) for path in _files(logs, part)}
    while True:
        for path in _files(logs, part):
            reading.setdefault(path, _Reading(path, 0))
        fresh = [line for one in reading.values() for line in one.lines()]
        for line in sorted(fresh, key=_when):
            yield line
        await asyncio.sleep(POLL_SECONDS)


class _Reading:
    """A position in a file, from which reading continues even if the file was replaced."""

    def __init__(self, path: Path, position: int) -> None:
        self._path = path
        self._position = position
        self._inode = path.stat().st_ino
        self._rest = b""

    def lines(self) -> list[Line]:
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._inode or found.st_size < self._position:
                    self._inode, self._position, self._rest = found.st_ino, 0, b""
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []  # the file is being rotated; the next call reads the new one
        self._position += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        return list(_parsed(_part(self._path), whole, found.st_mtime))


def _files(logs: Path, part: str | None = None) -> list[Path]:
    found = [path for path in logs.glob("*") if path.suffix in _SUFFIXES or path.name == CONSOLE]
    return sorted(path for path in found if part in (None, _part(path)))


def _part(path: Path) -> str:
    return POSTGRESQL if path.name.startswith(POSTGRESQL) else path.stem


def _tail(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        size = found.st_size
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().split(b"\n")
    yield from _parsed(_part(path), lines[1:] if size > TAIL_BYTES else lines, found.st_mtime)


def _parsed(part: str, lines: list[bytes], changed: float) -> Iterator[Line]:
    written = dt.datetime.fromtimestamp(changed, dt.UTC)
    for data in lines:
        if data.strip():
            yield parse(part, data.decode(errors="replace"), written)


def parse(part: str, raw: str, written: dt.datetime) -> Line:
    """Parse a line of any part: ours, etcd's or PostgreSQL's; keep others as they are.

    ``written`` is its time if it contains none.
    """
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.DecodeError:
        return Line(_time(raw[:23]) or written, part, "", raw, raw)
    time = fields.get("time") or fields.get("ts") or fields.get("timestamp") or ""
    level = str(fields.get("level") or fields.get("error_severity") or "").lower()
    return Line(_time(str(time)) or written, part, level, _text(fields), raw)


def _text(fields: dict[str, Any]) -> str:
    if "line" in fields:
        return _OWN_TIME.sub("", str(fields["line"]))
    if "error_severity" in fields:
        texts = (fields.get(name) for name in ("message", "detail", "hint"))
        return "; ".join(str(text) for text in texts if text)
    said = fields.get("event") or fields.get("msg") or fields.get("message") or ""
    rest = (f"{name}={value}" for name, value in fields.items() if name not in _NOT_SHOWN)
    return " ".join((str(said), *rest))


def _when(line: Line) -> dt.datetime:
    return line.time


def _time(text: str) -> dt.datetime | None:
    """Parse a time of any of the formats."""
    cleaned = text.removesuffix(" UTC").replace(",", ".")
    try:
        found = dt.datetime.fromisoformat(cleaned)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
