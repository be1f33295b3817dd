"""The end of a node's first copy is reported until it was stored, and never again."""

import asyncio
from pathlib import Path
from typing import Any

from openvcha.node.background.clone_progress import CopyPublisher
from openvcha.node.layout import Layout
from openvcha.node.postgres.cloning.first_clone import completed_when_written, first_copy
from openvcha.store import clone_reports, keys
from openvcha.store.clone_reports import CopyReport, CopyState
from openvcha.store.errors import StoreUnavailable
from openvcha.store.memory import MemoryStore

KEY = keys.node_copy("b-2")


class Store(MemoryStore):
    """A store that may be away."""

    away = False

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        if self.away:
            raise StoreUnavailable("away")
        return await super().put(key, value, lease)


class Log:
    def warning(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


async def life(layout: Layout, store: Store) -> None:
    """Run the node once, until it has its data and has reported what it could."""

    async def copy(publish: Any) -> bool:
        publish(CopyReport(state=CopyState.RUNNING))
        layout.pgdata.mkdir()
        (layout.pgdata / "PG_VERSION").write_text("18")
        publish(CopyReport(state=CopyState.DONE))
        return True

    log: Any = Log()
    async with CopyPublisher(
        store, "b-2", log, on_written=completed_when_written(layout)
    ) as publisher:
        assert await first_copy(layout, publisher.publish, copy)
        await asyncio.sleep(0.05)


async def state(store: Store) -> CopyState | None:
    found = await store.get(KEY)
    return clone_reports.decode(found.value).state if found else None


async def test_a_node_that_is_started_again_tells_nothing(tmp_path: Path) -> None:
    """The task has deleted the report; no process would delete another."""
    layout, store = Layout(tmp_path), Store()
    await life(layout, store)
    assert await state(store) is CopyState.DONE
    await store.delete(KEY)
    for _ in range(3):
        await life(layout, store)
    assert await state(store) is None


async def test_what_could_not_be_told_is_told_by_the_next_run(tmp_path: Path) -> None:
    """The task waits for it: without it a complete copy would be discarded."""
    layout, store = Layout(tmp_path), Store()
    store.away = True
    await life(layout, store)
    store.away = False
    assert await state(store) is None
    await life(layout, store)
    assert await state(store) is CopyState.DONE


async def test_a_report_on_the_way_is_not_the_end(tmp_path: Path) -> None:
    """A run that stops during the copy has reported no end: the next one does."""
    layout = Layout(tmp_path)
    layout.copy_untold.write_bytes(b"")
    completed_when_written(layout)(CopyReport(state=CopyState.RUNNING))
    assert layout.copy_untold.exists()
    completed_when_written(layout)(CopyReport(state=CopyState.DONE))
    assert not layout.copy_untold.exists()
