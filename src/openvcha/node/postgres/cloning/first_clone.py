"""A new node's first copy, the end of which is reported exactly once.

The task that creates the node waits for the report, and finally deletes it. A report that every
start of the node wrote again would stay forever.
"""

from collections.abc import Awaitable, Callable

from openvcha.node.layout import Layout
from openvcha.node.postgres.cloning.clone import has_data
from openvcha.store.clone_reports import CopyReport, CopyState
from openvcha.system.durable import write_durably

Publish = Callable[[CopyReport], None]


async def first_copy(
    layout: Layout, publish: Publish, copy: Callable[[Publish], Awaitable[bool]]
) -> bool:
    """Copy the data with ``copy`` unless they exist; return whether they exist. Raises OSError."""
    if not has_data(layout):
        write_durably(layout.copy_untold, b"")
        return await copy(publish)
    if layout.copy_untold.exists():
        # The last run ended after the copy, but before its report.
        publish(CopyReport(state=CopyState.DONE))
    return True


def completed_when_written(layout: Layout) -> Publish:
    """Return a callback for written reports that marks the end of the copy as reported."""

    def told(report: CopyReport) -> None:
        if report.state is CopyState.DONE:
            layout.copy_untold.unlink(missing_ok=True)

    return told
