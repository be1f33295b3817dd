"""A new node's first copy, and that its end is told: until it was told, and never again.

The task that makes the node waits for the report, and deletes it in the end. A report that is
written once more at each start of the node would stay for ever.
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
    """Return whether the data are there; ``copy`` copies them where not. Raises OSError."""
    if not has_data(layout):
        write_durably(layout.copy_untold, b"")
        return await copy(publish)
    if layout.copy_untold.exists():
        # The last run ended between the copy's end and its report.
        publish(CopyReport(state=CopyState.DONE))
    return True


def was_told(layout: Layout) -> Publish:
    """Return what takes note of each report that was written. Its end is told once."""

    def told(report: CopyReport) -> None:
        if report.state is CopyState.DONE:
            layout.copy_untold.unlink(missing_ok=True)

    return told
