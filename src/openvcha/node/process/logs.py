"""Logs: JSON lines, one file per part, rotated by size."""

import contextlib
import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import msgspec

from openvcha.api.foreign_text import printable_json
from openvcha.system.structlog_light import structlog

MAX_BYTES = 16 << 20
MAX_FILES = 3
Logger = structlog.typing.FilteringBoundLogger


class RotatingLog:
    """A file of lines; when full it is renamed to `.1`, `.1` to `.2`, and so on."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self.lost = 0
        self._file = _open(path)
        self._size = os.fstat(self._file).st_size

    def write(self, line: bytes) -> None:
        """Append one line (without a newline); count lines lost to a full disk, and log that later.

        An exception here would stop reading the program's output, and so block the program.
        """
        if self.lost:
            line = msgspec.json.encode({"time": utc_now(), "lost_lines": self.lost}) + b"\n" + line
        data = line + b"\n"
        try:
            if self._size and self._size + len(data) > self._max_bytes:
                self._rotate(len(data))
            self._size += os.write(self._file, data)
        except OSError:
            self.lost += 1
        else:
            self.lost = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _rotate(self, room: int) -> None:
        """Begin a new file for a line of ``room`` bytes. Raises OSError.

        While none can be opened (no descriptors or inodes), the full file is used further, up to
        twice its size: renamed for each line, the older logs would be gone after three lines.
        """
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            file = _open(fresh)
        except OSError:
            if self._size + room > 2 * self._max_bytes:
                raise
            return
        try:
            for number in range(self._max_files, 0, -1):
                older = self._numbered(number)
                newer = self._numbered(number - 1) if number > 1 else self._path
                with contextlib.suppress(FileNotFoundError):
                    newer.replace(older)
            fresh.replace(self._path)
        except OSError:
            os.close(file)
            raise
        full, self._file = self._file, file
        os.close(full)
        self._size = 0

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def log_path(logs: Path, part: str) -> Path:
    """Return the path of a part's log."""
    return logs / f"{part}.jsonl"


def utc_now() -> str:
    """Return the time in the format of logs."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def wrap(part: str, line: bytes, now: Callable[[], str] = utc_now) -> bytes:
    """Return a line of a part as a JSON object; leave a line that already is one unchanged."""
    if line.startswith(b"{") and _is_json(line):
        return line
    text = line.decode(errors="backslashreplace")
    return _json({"time": now(), "part": part, "line": text}).encode()


def logger(log: RotatingLog, part: str) -> Logger:
    """Return a structured logger for the file, without changing global state."""
    wrapped: Logger = structlog.wrap_logger(
        _Lines(log),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.ExceptionRenderer(),
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        part=part,
    )
    return wrapped


class Output:
    """A sink for structlog in a program whose output another program reads.

    Errors are ignored when the reader is gone: logging must not stop the work.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def msg(self, line: str) -> None:
        """Write a line; ignore errors."""
        with contextlib.suppress(OSError):
            print(line, file=self._file, flush=True)

    log = debug = info = warning = error = critical = exception = fatal = msg


class _Lines:
    """A sink for structlog that writes to a rotating log."""

    def __init__(self, log: RotatingLog) -> None:
        self._log = log

    def msg(self, line: str) -> None:
        self._log.write(line.encode())

    debug = info = warning = error = critical = exception = msg


def _json(value: Any, **_: Any) -> str:
    # Log files are displayed in terminals, too.
    return printable_json(msgspec.json.encode(value, enc_hook=str).decode())


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    return True


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
