"""A node's own PostgreSQL, as far as it is managed without Patroni: its role, and stopping it."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from openvcha.node.engines import Postgres
from openvcha.node.layout import Layout
from openvcha.node.process.spawn import Launch, engine_environment, launch
from openvcha.system.structlog_light import structlog

STANDBY_SIGNAL = "standby.signal"
SETTINGS = "postgresql.conf"
WAITS_FOR = re.compile(r"^synchronous_standby_names\s*=\s*'[^']", re.MULTILINE)
STOP_SECONDS = 60

_log = structlog.get_logger(__name__)


class LocalPostgres:
    """The PostgreSQL in a node's directory."""

    def __init__(
        self,
        layout: Layout,
        postgres: Postgres,
        environment: Mapping[str, str] = os.environ,
        start: Launch = launch,
    ) -> None:
        self._layout = layout
        self._postgres = postgres
        self._environment = environment
        self._start = start

    @property
    def standby(self) -> bool:
        """Return whether the data directory starts as a standby; if not, it starts as a primary."""
        return is_standby(self._layout.pgdata)

    async def stop(self) -> bool:
        """Stop it in fast mode, which ends all sessions. Return whether it has stopped.

        Raises OSError if pg_ctl cannot be started.
        """
        said: list[bytes] = []
        environment = engine_environment(self._environment, self._layout.root)
        running = await self._start(self._stop_argv(), environment, said.append)
        stopped = await running.wait() == 0
        if not stopped:
            reason = b" ".join(said).decode(errors="replace")
            _log.warning("PostgreSQL does not stop", reason=reason)
        return stopped

    def _stop_argv(self) -> list[str]:
        return [
            str(self._postgres.bin_dir / "pg_ctl"),
            "stop",
            f"--pgdata={self._layout.pgdata}",
            "--mode=fast",
            f"--timeout={STOP_SECONDS}",
        ]


def is_standby(pgdata: Path) -> bool:
    """Return whether a data directory starts as a standby."""
    return (pgdata / STANDBY_SIGNAL).exists()


def commits_wait(pgdata: Path) -> bool:
    """Return whether commits wait for a standby, by Patroni's settings. Raises OSError."""
    return WAITS_FOR.search((pgdata / SETTINGS).read_text(errors="replace")) is not None


def postgres_major(pgdata: Path) -> int | None:
    """Return the major version of a data directory; None if there is none."""
    version = pgdata / "PG_VERSION"
    return int(version.read_text().split(".")[0]) if version.is_file() else None
