"""Copying: the node copies the data itself and reports; the task follows its reports."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.operations.context import Services
from openvcha.operations.steps.new_node import NewNode, in_service, recall
from openvcha.store import keys
from openvcha.store.clone_reports import CopyReport, CopyState
from openvcha.store.errors import StoreUnavailable
from openvcha.store.records import readable
from openvcha.tasks.steps import Step, TaskContext
from openvcha.tasks.transient import WaitTimedOut

STALL_SECONDS = 180.0
FREE_ATTEMPTS = 5
"""After this many, only bytes that no earlier attempt has reached count as progress."""
LOOK_SECONDS = 0.1
CLOCK_MARGIN = timedelta(seconds=2)
"""A copy may have begun as soon as the node was created, a moment before this step."""
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass
class _Watch:
    """When the copy last progressed (seconds), and how far it is and has been (bytes)."""

    bytes_done: int = -1
    furthest: int = -1
    since: float = 0.0

    def moves(self, report: CopyReport) -> bool:
        """Note a report; return whether the copy progresses."""
        furthest, before = self.furthest, self.bytes_done
        self.bytes_done, self.furthest = report.bytes_done, max(furthest, report.bytes_done)
        return self.furthest > furthest or (
            report.attempt <= FREE_ATTEMPTS and report.bytes_done != before
        )


class Copy(Step):
    """The step that waits until the new node has copied the data; the clone's undo deletes them."""

    weight = 60

    def __init__(self, services: Services, role: str) -> None:
        self._services = services
        self._role = role
        self.name = f"copy.{role}"

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the node reports a durable copy."""
        if await in_service(self._services, ctx, self._role):
            return True
        report = await self._report(recall(ctx, self._role))
        return report is not None and report.state is CopyState.DONE

    async def act(self, ctx: TaskContext) -> None:
        """Follow the reports until the copy is complete. Raises ApiError ERROR, WaitTimedOut."""
        node = recall(ctx, self._role)
        name = node.placement.name
        watch = _Watch(since=asyncio.get_running_loop().time())
        began = datetime.now(UTC) - CLOCK_MARGIN
        report: CopyReport | None = None
        while not _whole(report, name):
            _not_stalled(watch, report, name)
            await ctx.progress(_fraction(report), said(report, name))
            await ctx.pause(LOOK_SECONDS)
            # A copy may take hours; short outages of the store must not end it.
            with contextlib.suppress(StoreUnavailable):
                report = await self._report(node)
            if report is not None and report.state is CopyState.FAILED:
                report = await self._judged(report, began)

    async def _judged(self, report: CopyReport, since: datetime) -> CopyReport:
        """Return the report with the server's error: the node sees only that the copy ended."""
        error = await self._services.postgres.copy_error(since)
        if error is None:
            return report
        told = f"{error.state} {error.message} ({report.error})"
        temporary = report.temporary and not error.final
        return msgspec.structs.replace(report, error=told, temporary=temporary)

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: the undo of the clone deletes the data."""

    async def _report(self, node: NewNode) -> CopyReport | None:
        found = await self._services.store.get(keys.node_copy(node.member))
        return next((report for _, report in readable([found] if found else [], CopyReport)), None)


def _whole(report: CopyReport | None, name: str) -> bool:
    if report is not None and report.state is CopyState.FAILED and not report.temporary:
        raise ApiError(ErrorType.ERROR, message("copy.failed", name, report.error or "unknown"))
    return report is not None and report.state is CopyState.DONE


def _not_stalled(watch: _Watch, report: CopyReport | None, name: str) -> None:
    now = asyncio.get_running_loop().time()
    if report is not None and watch.moves(report):
        watch.since = now
    elif now - watch.since > STALL_SECONDS:
        causes = [message("copy.failed", name, report.error)] if report and report.error else []
        stalled = message("copy.stalled", name, f"{STALL_SECONDS:g}")
        raise WaitTimedOut(stalled, *causes)


def _fraction(report: CopyReport | None) -> float:
    return report.bytes_done / report.bytes_total if report and report.bytes_total else 0.0


def said(report: CopyReport | None, name: str) -> LocalizableMessage:
    """Format the progress of a copy, with the reason of the failure if it is retried."""
    if report is not None and report.state is CopyState.FAILED:
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
