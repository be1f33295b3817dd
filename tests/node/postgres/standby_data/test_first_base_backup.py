"""The end of a node's first base backup is reported until it was stored, and never again."""

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from openvcha.node.background.base_backup_publisher import (
    LEASE_SECONDS,
    RETRY_SECONDS,
    BaseBackupPublisher,
)
from openvcha.node.layout import Layout
from openvcha.node.postgres.standby_data import base_backup
from openvcha.node.postgres.standby_data.base_backup import (
    SPACE_SECONDS,
    completed_when_written,
    first_base_backup,
    has_data,
)
from openvcha.store import base_backup_reports, keys
from openvcha.store.base_backup_reports import BaseBackupReport, BaseBackupState
from openvcha.store.errors import StoreUnavailable
from openvcha.store.memory import MemoryStore
from openvcha.system.files import durable

DONE = b'"DONE"'
KEY = keys.base_backup_report("b-2")


class Store(MemoryStore):
    """A store that may be away, or lose the reply to a report that the task deletes meanwhile."""

    away = False
    loses_reply = False

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        if self.away:
            raise StoreUnavailable("away")
        revision = await super().put(key, value, lease)
        if self.loses_reply and DONE in value:
            self.loses_reply = False
            await self.delete(key)
            raise StoreUnavailable("no reply")
        return revision


class Log:
    def warning(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


async def life(layout: Layout, store: Store) -> None:
    """Run the node once, until it has its data and has reported what it could."""

    async def take(publish: Any) -> bool:
        publish(BaseBackupReport(state=BaseBackupState.RUNNING))
        layout.pgdata.mkdir()
        (layout.pgdata / "PG_VERSION").write_text("18")
        publish(BaseBackupReport(state=BaseBackupState.DONE))
        return True

    complete, completed = completed_when_written(layout), asyncio.Event()

    async def told(report: BaseBackupReport) -> None:
        await complete(report)
        if report.state is BaseBackupState.DONE:
            completed.set()

    log: Any = Log()
    reports = layout.base_backup_unreported.exists() or not has_data(layout)
    async with BaseBackupPublisher(store, "b-2", log, on_written=told) as publisher:
        assert await first_base_backup(layout, publisher.publish, take)
        if reports and not store.away:
            await completed.wait()
        else:
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def reporting(
    store: Store, told: Callable[[BaseBackupReport], Awaitable[None]] | None = None
) -> AsyncIterator[None]:
    """Report the end of a base backup; ``told`` is awaited once that is written."""

    async def nothing(_: BaseBackupReport) -> None:
        """Do nothing."""

    log: Any = Log()
    async with BaseBackupPublisher(store, "b-2", log, on_written=told or nothing) as publisher:
        publisher.publish(BaseBackupReport(state=BaseBackupState.DONE))
        yield


async def state(store: Store) -> BaseBackupState | None:
    found = await store.get(KEY)
    return base_backup_reports.decode(found.value).state if found else None


async def test_a_node_that_is_started_again_tells_nothing(tmp_path: Path) -> None:
    """The task has deleted the report; no process would delete another."""
    layout, store = Layout(tmp_path), Store()
    await life(layout, store)
    assert await state(store) is BaseBackupState.DONE
    await store.delete(KEY)
    for _ in range(3):
        await life(layout, store)
    assert await state(store) is None


async def test_what_could_not_be_told_is_told_by_the_next_run(tmp_path: Path) -> None:
    """The task waits for it: without it complete data would be discarded."""
    layout, store = Layout(tmp_path), Store()
    store.away = True
    await life(layout, store)
    store.away = False
    assert await state(store) is None
    await life(layout, store)
    assert await state(store) is BaseBackupState.DONE


@pytest.mark.looptime
async def test_a_report_that_is_written_again_after_its_deletion_expires() -> None:
    """The reply to its first writing was lost, and the task has ended before the second."""
    store = Store()
    store.loses_reply = True
    async with reporting(store):
        await asyncio.sleep(RETRY_SECONDS + 1)
    assert await state(store) is BaseBackupState.DONE
    await asyncio.sleep(LEASE_SECONDS + 1)
    assert await state(store) is None


async def test_the_end_of_its_report_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss must not restore the marker: the next run would report again.

    The sync may take long: the event loop does not wait for it.
    """
    layout = Layout(tmp_path)
    layout.base_backup_unreported.write_bytes(b"")
    synced: list[tuple[Path, bool]] = []

    def sync(directory: Path) -> None:
        assert threading.current_thread() is not threading.main_thread()
        synced.append((directory, layout.base_backup_unreported.exists()))

    monkeypatch.setattr(base_backup, "sync_directory", sync)
    await completed_when_written(layout)(BaseBackupReport(state=BaseBackupState.DONE))
    assert synced == [(tmp_path, False)]


@pytest.mark.looptime
async def test_a_report_stays_while_no_node_leads() -> None:
    """However long: the task that resumes then would undo a complete node."""
    store = Store()
    async with reporting(store):
        await asyncio.sleep(5 * LEASE_SECONDS)
        assert await state(store) is BaseBackupState.DONE
    await asyncio.sleep(LEASE_SECONDS + 1)
    assert await state(store) is None


@pytest.mark.looptime
async def test_a_report_that_the_task_has_deleted_stays_deleted() -> None:
    """The node that runs on neither writes it again nor renews its lease."""
    store = Store()
    async with reporting(store):
        await asyncio.sleep(1)
        await store.delete(KEY)
        await asyncio.sleep(5 * LEASE_SECONDS)
        assert await state(store) is None
        assert not store._leases


async def test_a_marker_that_cannot_be_removed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without writing the report again: the task may have deleted it."""
    layout, store = Layout(tmp_path), Store()
    failures = [OSError(errno.EIO, os.strerror(errno.EIO))] * 2
    synced = threading.Event()

    def sync(_: Path) -> None:
        if failures:
            raise failures.pop()
        synced.set()

    async def told(report: BaseBackupReport) -> None:
        if len(failures) == 2:
            await store.delete(KEY)
        await completed_when_written(layout)(report)

    monkeypatch.setattr(base_backup, "sync_directory", sync)
    layout.base_backup_unreported.write_bytes(b"")
    async with reporting(store, told):
        assert await asyncio.to_thread(synced.wait, 30)
    assert not layout.base_backup_unreported.exists()
    assert await state(store) is None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_node_whose_disk_is_full_at_once_reports_that_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """It could not even note that it has begun; its supervisor goes on."""
    write, full = durable.write_durably, OSError(code, os.strerror(code))
    failures = [full, full]
    told: list[BaseBackupReport] = []

    def write_or_fail(path: Path, data: bytes) -> None:
        if failures:
            raise failures.pop()
        write(path, data)

    async def take(_: Any) -> bool:
        assert Layout(tmp_path).base_backup_unreported.exists()
        return True

    async def sleep(seconds: float) -> None:
        assert seconds == SPACE_SECONDS
        assert len(told) + len(failures) == 2

    monkeypatch.setattr(base_backup, "write_durably", write_or_fail)
    assert await first_base_backup(Layout(tmp_path), told.append, take, sleep)
    failed = BaseBackupReport(state=BaseBackupState.FAILED, error=str(full), temporary=True)
    assert told == [failed] * 2


async def test_another_error_at_the_begin_is_not_taken_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the node's program; no wait would help."""

    def refused(path: Path, _: bytes) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    async def take(_: Any) -> bool:
        raise AssertionError("the base backup began")

    monkeypatch.setattr(base_backup, "write_durably", refused)
    told: list[BaseBackupReport] = []
    with pytest.raises(PermissionError):
        await first_base_backup(Layout(tmp_path), told.append, take)
    assert not told


async def test_a_report_on_the_way_is_not_the_end(tmp_path: Path) -> None:
    """A run that stops during the base backup has reported no end: the next one does."""
    layout = Layout(tmp_path)
    layout.base_backup_unreported.write_bytes(b"")
    await completed_when_written(layout)(BaseBackupReport(state=BaseBackupState.RUNNING))
    assert layout.base_backup_unreported.exists()
    await completed_when_written(layout)(BaseBackupReport(state=BaseBackupState.DONE))
    assert not layout.base_backup_unreported.exists()
