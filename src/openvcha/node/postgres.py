"""A node's own PostgreSQL, where Patroni leaves it to us: its data's role, and its end."""

import os
from collections.abc import Mapping

import structlog

from openvcha.node.engines import Postgres
from openvcha.node.launch import Launch, launch, program_environment
from openvcha.node.layout import Layout

STANDBY_SIGNAL = "standby.signal"
STOP_SECONDS = 60

_log = structlog.get_logger(__name__)


class LocalPostgres:
    """PostgreSQL in a node's directory."""

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
        """Tell whether these data start as a standby's. Those of a primary start as a primary."""
        return (self._layout.pgdata / STANDBY_SIGNAL).exists()

    async def stop(self) -> bool:
        """Stop it as an administrator does, sessions end at once; tells whether it has stopped.

        Raises OSError when the program cannot be started.
        """
        said: list[bytes] = []
        environment = program_environment(self._environment)
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
