"""What pg_basebackup is told, and what it tells."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from openvcha.node.engines import BASE_BACKUP, Postgres
from openvcha.node.layout import Layout
from openvcha.node.postgres.tls import session_environment
from openvcha.store.clone_reports import CopyReport, CopyState

KIB = 1024
COPY_APPLICATION = "openvcha_copy"
COPY_OPTIONS = "-c statement_timeout=0 -c idle_session_timeout=0 -c wal_sender_timeout=60s"
"""What its two sessions need, whatever is set for all sessions or for their role."""
# Weight of what was measured before against what was measured now; a second lies between the two.
RATE_MEMORY = 0.6
PROGRESS = re.compile(rb"^\s*(\d+)/(\d+) kB \(\s*\d+%\)")
FINAL_REASONS = (
    b"No space left on device",
    b"password authentication failed",
    b"certificate verify failed",
    b"Permission denied",
    b"no pg_hba.conf entry",
    b"incompatible server version",
)


def backup_argv(postgres: Postgres, target: Path, host: str, port: int, user: str) -> list[str]:
    """Write the command line of a copy; the password is in the environment's password file."""
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
    """Return libpq's settings of a copy."""
    return {
        "PGPASSFILE": str(pgpass),
        "PGCONNECT_TIMEOUT": "5",
        "PGAPPNAME": COPY_APPLICATION,
        "PGOPTIONS": COPY_OPTIONS,
        "LC_ALL": "C",  # its report is read
        **session_environment(layout, postgres),
    }


def pgpass_line(user: str, password: str) -> bytes:
    """Write a line of a password file that counts for every server."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:{user}:{escaped}\n".encode()


def parse_progress(line: bytes) -> tuple[int, int] | None:
    """Read (bytes done, bytes total) from a line of its report; None for any other line.

    The total is its estimate from before the copy: it is never given below what is done.
    """
    found = PROGRESS.match(line)
    if not found:
        return None
    done, total = (int(number) * KIB for number in found.groups())
    return done, max(done, total)


def reason(said: Sequence[bytes]) -> str:
    """Return the line that says why it ended: after its error it may tell how it cleans up."""
    errors = [line for line in said if b" error: " in line or b" fatal: " in line]
    return (errors or list(said) or [b""])[-1].decode(errors="replace")


def is_temporary(output: bytes) -> bool:
    """Return whether trying again may help, from what it said before it ended."""
    return not any(reason in output for reason in FINAL_REASONS)


@dataclasses.dataclass
class Progress:
    """Turns lines into reports: the rate is smoothed, the time left follows from it."""

    clock: Callable[[], float]
    attempt: int
    rate: float = 0.0
    done: int = 0
    total: int = 0
    _last: tuple[float, int] | None = None

    def read(self, line: bytes) -> CopyReport | None:
        """Take a line of the report, and return a report when it told something new."""
        found = parse_progress(line)
        if not found:
            return None
        now = self.clock()
        done, total = found
        self._measure(now, done)
        self.done, self.total = max(self.done, done), max(self.total, total)
        return self.report(CopyState.RUNNING)

    def report(self, state: CopyState) -> CopyReport:
        """Return how far the copy is."""
        left = (self.total - self.done) / self.rate if self.rate else None
        return CopyReport(
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
        self.rate = RATE_MEMORY * self.rate + (1 - RATE_MEMORY) * fresh if self.rate else fresh
        self._last = (now, done)
