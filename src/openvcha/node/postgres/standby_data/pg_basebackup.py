"""pg_basebackup's command line, environment, output, and what the server logs about it."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from openvcha.node.engines import BASE_BACKUP, Postgres
from openvcha.node.layout import Layout
from openvcha.node.postgres.log import SEVERE, Entry
from openvcha.node.postgres.tls import session_environment
from openvcha.store.base_backup_reports import BaseBackupReport, BaseBackupState

KIB = 1024
APPLICATION_NAME = "openvcha_copy"
SESSION_OPTIONS = "-c statement_timeout=0 -c idle_session_timeout=0 -c wal_sender_timeout=60s"
"""What its two sessions need, whatever defaults are set for all sessions or for their role."""
# Weight of the previous average against a new measurement; there is one per second.
RATE_SMOOTHING = 0.6
PROGRESS = re.compile(rb"^\s*(\d+)/(\d+) kB \(\s*\d+%\)")
PERMANENT_ERRORS = (
    b"No space left on device",
    b"certificate verify failed",
    b"Permission denied",
    b"no pg_hba.conf entry",
    b"incompatible server version",
)
"""A refused password is none of them: the active restores the passwords of the cluster's roles."""
TRANSIENT_STATES = ("08", "28P01", "40", "53300", "53400", "55", "57")
"""SQLSTATEs, or classes of them, that may pass: a lost connection, a wrong password, too many
connections, an object in use, a server that is stopping."""


def backup_argv(postgres: Postgres, target: Path, host: str, port: int, user: str) -> list[str]:
    """Return the command line; the environment names the password file."""
    return [
        str(postgres.bin_dir / BASE_BACKUP),
        f"--pgdata={target}",
        f"--host={host}",
        f"--port={port}",
        f"--username={user}",
        "--no-password",
        "--checkpoint=fast",
        "--wal-method=stream",
        "--progress",
    ]


def backup_environment(layout: Layout, postgres: Postgres, pgpass: Path) -> dict[str, str]:
    """Return libpq's environment variables for pg_basebackup."""
    return {
        "PGPASSFILE": str(pgpass),
        "PGCONNECT_TIMEOUT": "5",
        "PGAPPNAME": APPLICATION_NAME,
        "PGOPTIONS": SESSION_OPTIONS,
        "LC_ALL": "C",  # its output is parsed
        **session_environment(layout, postgres),
    }


def pgpass_line(user: str, password: str) -> bytes:
    """Return a line of a password file that matches every server."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:{user}:{escaped}\n".encode()


def parse_progress(line: bytes) -> tuple[int, int] | None:
    """Return (bytes done, bytes total) from a line of progress; None for any other line.

    The total is an estimate from before the start; it is raised to the bytes done if necessary.
    """
    found = PROGRESS.match(line)
    if not found:
        return None
    done, total = (int(number) * KIB for number in found.groups())
    return done, max(done, total)


def reason(said: Sequence[bytes]) -> str:
    """Return the line with the error; messages about the cleanup may follow it."""
    errors = [line for line in said if b" error: " in line or b" fatal: " in line]
    return (errors or list(said) or [b""])[-1].decode(errors="replace")


def is_temporary(output: bytes) -> bool:
    """Return whether a retry may help, judging by the output."""
    return not any(reason in output for reason in PERMANENT_ERRORS)


@dataclass(frozen=True)
class ServerError:
    """The server's error for a failed base backup. A ``final`` one recurs with every attempt.

    The client only sees that the connection ended.
    """

    state: str
    message: str

    @property
    def final(self) -> bool:
        """Return whether a retry cannot help."""
        return not self.state.startswith(TRANSIENT_STATES)


def base_backup_error(log: Iterable[Entry], since: datetime) -> ServerError | None:
    """Return the last error of pg_basebackup's sessions since a time, if any."""
    found = [
        each
        for each in log
        if each.application == APPLICATION_NAME and each.severity in SEVERE and each.time >= since
    ]
    return ServerError(found[-1].state, found[-1].message) if found else None


@dataclass
class Progress:
    """A parser that turns lines of output into reports with a smoothed rate."""

    clock: Callable[[], float]
    attempt: int
    rate: float = 0.0
    done: int = 0
    total: int = 0
    _last: tuple[float, int] | None = None

    def read(self, line: bytes) -> BaseBackupReport | None:
        """Process a line of output, and return a report if it has new progress."""
        found = parse_progress(line)
        if not found:
            return None
        now = self.clock()
        done, total = found
        self._measure(now, done)
        self.done, self.total = max(self.done, done), max(self.total, total)
        return self.report(BaseBackupState.RUNNING)

    def report(self, state: BaseBackupState) -> BaseBackupReport:
        """Return a report of the current progress."""
        left = (self.total - self.done) / self.rate if self.rate else None
        return BaseBackupReport(
            state=state,
            bytes_done=self.done,
            bytes_total=self.total,
            rate=self.rate,
            seconds_left=left,
            attempt=self.attempt,
        )

    def _measure(self, now: float, done: int) -> None:
        if self._last is None:
            self._last = (now, done)
            return
        then, before = self._last
        if now <= then:
            return
        fresh = max(0, done - before) / (now - then)
        self.rate = (
            RATE_SMOOTHING * self.rate + (1 - RATE_SMOOTHING) * fresh if self.rate else fresh
        )
        self._last = (now, done)
