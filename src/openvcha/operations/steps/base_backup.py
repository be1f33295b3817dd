"""The new node's base backup: it reports, and the task follows. The step is called `copy`."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.operations.context import Services
from openvcha.operations.steps.new_node import NewNode, in_service, recall, streams
from openvcha.store import keys
from openvcha.store.base_backup_reports import BaseBackupReport, BaseBackupState
from openvcha.store.errors import StoreUnavailable
from openvcha.store.records import readable
from openvcha.tasks.steps import Step, TaskContext
from openvcha.tasks.transient import WaitTimedOut

STALL_SECONDS = 180.0
FREE_ATTEMPTS = 5
"""After this many, only bytes that no earlier attempt has reached count as progress."""
POLL_SECONDS = 0.1
CLOCK_MARGIN = timedelta(seconds=2)
"""It may have begun as soon as the node was created, a moment before this step."""
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass
class _Watch:
    """When the base backup last progressed (seconds), and how far it is and has been (bytes)."""

    bytes_done: int = -1
    furthest: int = -1
    since: float = 0.0

    def moves(self, report: BaseBackupReport) -> bool:
        """Note a report; return whether the base backup progresses."""
        furthest, before = self.furthest, self.bytes_done
        self.bytes_done, self.furthest = report.bytes_done, max(furthest, report.bytes_done)
        return self.furthest > furthest or (
            report.attempt <= FREE_ATTEMPTS and report.bytes_done != before
        )


class AwaitBaseBackup(Step):
    """The step that waits until the new node has its data; the undo of CreateNode deletes them."""

    weight = 60

    def __init__(self, services: Services, role: str) -> None:
        self._services = services
        self._role = role
        self.name = f"copy.{role}"

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the node reports a durable base backup, or streams without a report."""
        if await in_service(self._services, ctx, self._role):
            return True
        node = recall(ctx, self._role)
        report = await self._report(node)
        if report is None:
            return await self._outlived_its_report(node)
        return report.state is BaseBackupState.DONE

    async def act(self, ctx: TaskContext) -> None:
        """Follow the reports until the data are complete. Raises ApiError ERROR, WaitTimedOut."""
        node = recall(ctx, self._role)
        name = node.placement.name
        watch = _Watch(since=asyncio.get_running_loop().time())
        began = datetime.now(UTC) - CLOCK_MARGIN
        report: BaseBackupReport | None = None
        judged: BaseBackupReport | None = None
        while not _whole(report, name):
            if report is None and await self._outlived_its_report(node):
                return
            _not_stalled(watch, report, name)
            await ctx.progress(_fraction(report), said(report, name))
            await ctx.pause(POLL_SECONDS)
            # A base backup may take hours; short outages of the store must not end it.
            with contextlib.suppress(StoreUnavailable):
                found = await self._report(node)
                # A report stays for many polls, and the server's log may be large: read it once.
                if found != judged:
                    report, judged = await self._judged(found, began), found

    async def _outlived_its_report(self, node: NewNode) -> bool:
        """Return whether the node streams: it does so only with a complete base backup.

        A report expires, and in a manual join the other node may come long after it.
        """
        return await streams(self._services, node)

    async def _judged(
        self, report: BaseBackupReport | None, since: datetime
    ) -> BaseBackupReport | None:
        """Return a failure with the server's error: the node sees only that it ended."""
        if report is None or report.state is not BaseBackupState.FAILED:
            return report
        error = await self._services.postgres.base_backup_error(since)
        if error is None:
            return report
        told = f"{error.state} {error.message} ({report.error})"
        temporary = report.temporary and not error.final
        return msgspec.structs.replace(report, error=told, temporary=temporary)

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: the undo of CreateNode deletes the data."""

    async def _report(self, node: NewNode) -> BaseBackupReport | None:
        found = await self._services.store.get(keys.base_backup_report(node.member))
        return next(
            (report for _, report in readable([found] if found else [], BaseBackupReport)), None
        )


def _whole(report: BaseBackupReport | None, name: str) -> bool:
    if report is not None and report.state is BaseBackupState.FAILED and not report.temporary:
        raise ApiError(ErrorType.ERROR, message("copy.failed", name, report.error or "unknown"))
    return report is not None and report.state is BaseBackupState.DONE


def _not_stalled(watch: _Watch, report: BaseBackupReport | None, name: str) -> None:
    now = asyncio.get_running_loop().time()
    if report is not None and watch.moves(report):
        watch.since = now
    elif now - watch.since > STALL_SECONDS:
        causes = [message("copy.failed", name, report.error)] if report and report.error else []
        stalled = message("copy.stalled", name, f"{STALL_SECONDS:g}")
        raise WaitTimedOut(stalled, *causes)


def _fraction(report: BaseBackupReport | None) -> float:
    return report.bytes_done / report.bytes_total if report and report.bytes_total else 0.0


def said(report: BaseBackupReport | None, name: str) -> LocalizableMessage:
    """Format the progress of a base backup, with the reason of the failure if it is retried."""
    if report is not None and report.state is BaseBackupState.FAILED:
        return message("progress.copy.again", name, report.error or "unknown")
    if report is None or not report.bytes_total:
        return message("progress.copy.starting", name)
    so_far = size(report.bytes_done), size(report.bytes_total)
    if report.seconds_left is None:
        return message("progress.copy.unmeasured", *so_far)
    left = f"{report.seconds_left:.0f} s"
    return message("progress.copy", *so_far, size(report.rate), left)


def size(amount: float) -> str:
    """Format a number of bytes, in powers of 1000."""
    for unit in _UNITS[:-1]:
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} {_UNITS[-1]}"
