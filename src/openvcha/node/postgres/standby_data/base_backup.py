"""The base backup of the leader that a data node takes before Patroni starts."""

import asyncio
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from openvcha.node.engines import Postgres
from openvcha.node.identity import Secrets
from openvcha.node.layout import Layout
from openvcha.node.postgres.leader import BaseBackupFailed, Leader
from openvcha.node.postgres.own_names import REPLICATION_USER
from openvcha.node.postgres.server import STANDBY_SIGNAL
from openvcha.node.postgres.standby_data import pg_basebackup
from openvcha.node.process.backoff import Backoff
from openvcha.node.process.logs import Logger, RotatingLog, wrap
from openvcha.node.process.spawn import Launch, describe_exit, engine_environment, launch
from openvcha.store.base_backup_reports import BaseBackupReport, BaseBackupState
from openvcha.system.files.durable import NO_SPACE, sync_directory, write_durably, write_private
from openvcha.system.files.rmtree_errors import FULL_PATH_ERRORS

SPARE_BYTES = 128 << 20  # the WAL that is written during the base backup
STOP_SECONDS = 5.0
SPACE_SECONDS = 10.0
"""The pause before a base backup that could not begin on a full disk is tried again."""
MAX_OUTPUT_LINES = 20
Publish = Callable[[BaseBackupReport], None]


class BaseBackup:
    """A base backup of the leader, retried until it succeeds or fails for good."""

    def __init__(
        self,
        layout: Layout,
        postgres: Postgres,
        *,
        secrets: Callable[[], Secrets],
        find_leader: Callable[[], Awaitable[Leader]],
        publish: Publish,
        log: RotatingLog,
        events: Logger,
        environment: Mapping[str, str],
        start: Launch = launch,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._layout = layout
        self._postgres = postgres
        self._secrets = secrets
        self._find_leader = find_leader
        self._publish = publish
        self._log = log
        self._events = events
        self._environment = environment
        self._start = start
        self._clock = clock
        self._sleep = sleep
        self._free_bytes = free_bytes

    async def run(self) -> bool:
        """Take it, and retry after temporary failures; return whether it succeeded."""
        backoff = Backoff()
        attempt = 0
        while True:
            attempt += 1
            progress = pg_basebackup.Progress(self._clock, attempt)
            began = self._clock()
            try:
                await self._attempt_on_disk(progress)
            except BaseBackupFailed as error:
                failed = progress.report(BaseBackupState.FAILED)
                self._publish(
                    msgspec.structs.replace(failed, error=str(error), temporary=error.temporary)
                )
                self._events.warning(
                    "base backup failed", reason=str(error), temporary=error.temporary
                )
                if not error.temporary:
                    return False
                await self._sleep(backoff.pause(self._clock() - began))
            else:
                return True

    async def _attempt_on_disk(self, progress: pg_basebackup.Progress) -> None:
        try:
            await self._attempt(progress)
        except OSError as error:
            raise BaseBackupFailed(str(error), temporary=error.errno not in NO_SPACE) from error

    async def _attempt(self, progress: pg_basebackup.Progress) -> None:
        leader = await self._find_leader()
        await asyncio.to_thread(remove_tree, self._layout.incomplete_base_backup)
        self._check(leader)
        progress.total = leader.data_bytes
        self._publish(progress.report(BaseBackupState.RUNNING))
        self._events.info("base backup started", source=leader.member, bytes=leader.data_bytes)
        await self._back_up(leader, progress)
        await asyncio.to_thread(self._commit)
        progress.done = progress.total = max(progress.total, progress.done)
        self._publish(progress.report(BaseBackupState.DONE))
        self._events.info("base backup done", bytes=progress.total)

    def _check(self, leader: Leader) -> None:
        if leader.major != self._postgres.version[0]:
            raise BaseBackupFailed(
                f"the leader runs PostgreSQL {leader.major}, but this node has"
                f" {self._postgres.version[0]}",
                temporary=False,
            )
        free = self._free_bytes(self._layout.root)
        needed = leader.data_bytes + SPARE_BYTES
        if free < needed:
            raise BaseBackupFailed(
                f"the data need {needed} bytes, and the disk has {free} free", temporary=False
            )

    async def _back_up(self, leader: Leader, progress: pg_basebackup.Progress) -> None:
        pgpass = self._layout.run / "copy.pgpass"
        # Read at each attempt: they may have been renewed since the last one.
        secrets = await asyncio.to_thread(self._secrets)
        password = secrets.replication.reveal()
        write_private(pgpass, pg_basebackup.pgpass_line(REPLICATION_USER, password))
        said: list[bytes] = []

        def on_line(line: bytes) -> None:
            report = progress.read(line)
            if report:
                self._publish(report)
            else:
                said.append(line)
                del said[:-MAX_OUTPUT_LINES]
            self._log.write(wrap("copy", line))

        settings = pg_basebackup.backup_environment(self._layout, self._postgres, pgpass)
        argv = pg_basebackup.backup_argv(
            self._postgres,
            self._layout.incomplete_base_backup,
            leader.host,
            leader.port,
            REPLICATION_USER,
        )
        environment = engine_environment(self._environment, self._layout.root, settings)
        try:
            code = await self._until_end(argv, environment, on_line)
        finally:
            pgpass.unlink(missing_ok=True)
        if code != 0:
            output = b"\n".join(said)
            reason = pg_basebackup.reason(said) or describe_exit(code)
            raise BaseBackupFailed(reason, temporary=pg_basebackup.is_temporary(output))

    async def _until_end(
        self, argv: list[str], environment: dict[str, str], on_line: Callable[[bytes], None]
    ) -> int:
        try:
            running = await self._start(argv, environment, on_line)
        except OSError as error:
            raise BaseBackupFailed(
                f"{argv[0]} cannot be started: {error}", temporary=False
            ) from error
        ending = asyncio.ensure_future(running.wait())
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            running.send(signal.SIGTERM)
            await asyncio.wait([ending], timeout=STOP_SECONDS)
            running.send(signal.SIGKILL)
            raise

    def _commit(self) -> None:
        # The data always start as a standby, never by accident as a second primary.
        write_durably(self._layout.incomplete_base_backup / STANDBY_SIGNAL, b"")
        # pg_basebackup has synced the files; this syncs their new name.
        self._layout.incomplete_base_backup.rename(self._layout.pgdata)
        sync_directory(self._layout.root)


def remove_tree(path: Path) -> None:
    """Remove a directory tree, if it exists. Raises OSError."""
    if path.exists():
        shutil.rmtree(path, **FULL_PATH_ERRORS)


def has_data(layout: Layout) -> bool:
    """Return whether the node has a data directory; if so, it is complete."""
    return layout.pgdata.is_dir() and any(layout.pgdata.iterdir())


async def first_base_backup(
    layout: Layout,
    publish: Publish,
    take: Callable[[Publish], Awaitable[bool]],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> bool:
    """Take a new node's first base backup unless it has data; return whether it has.

    Its end is reported exactly once: the task that creates the node waits for the report, and
    finally deletes it. So a report that every start of the node wrote again would come back. One
    that cannot even begin on a full disk is reported, and tried again. Raises OSError.
    """
    if has_data(layout):
        if layout.base_backup_unreported.exists():
            # The last run ended after the base backup, but before its report.
            publish(BaseBackupReport(state=BaseBackupState.DONE))
        return True
    while True:
        try:
            write_durably(layout.base_backup_unreported, b"")
            return await take(publish)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            failed = BaseBackupState.FAILED
            publish(BaseBackupReport(state=failed, error=str(error), temporary=True))
        await sleep(SPACE_SECONDS)


def completed_when_written(layout: Layout) -> Callable[[BaseBackupReport], Awaitable[None]]:
    """Return a callback for written reports that marks the end of the base backup as reported.

    It raises OSError.
    """

    def complete() -> None:
        layout.base_backup_unreported.unlink(missing_ok=True)
        # Otherwise a power loss could restore the marker, and with it the report.
        sync_directory(layout.root)

    async def told(report: BaseBackupReport) -> None:
        if report.state is BaseBackupState.DONE:
            await asyncio.to_thread(complete)

    return told
