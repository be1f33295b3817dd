"""A supervisor's jobs besides keeping its parts running."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from openvcha.node.background.context import RETRY_SECONDS, NodeContext
from openvcha.node.background.registry import follow_members, run_jobs
from openvcha.store.errors import StoreUnavailable

pytestmark = pytest.mark.looptime


class Events:
    """Counts the failures that are logged."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def error(self, _: str, *, work: str, exc_info: BaseException) -> None:
        del exc_info
        self.broken.append(work)

    def debug(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


def view(store: Any = None) -> Any:
    notes: dict[str, str | None] = {}
    control = SimpleNamespace(notes=notes, tell=notes.__setitem__)
    return SimpleNamespace(events=Events(), store=store, control=control)


async def run_for(seconds: float, seen: Any, jobs: Any) -> None:
    working = asyncio.create_task(run_jobs(seen, jobs))
    await asyncio.sleep(seconds)
    working.cancel()
    await asyncio.wait([working])


async def test_a_broken_duty_is_begun_anew_and_touches_no_other() -> None:
    """Its reason is logged once as long as it stays the same."""
    begun = {"broken": 0, "sound": 0}

    async def broken(_: NodeContext) -> None:
        begun["broken"] += 1
        raise ValueError("no")

    async def sound(_: NodeContext) -> None:
        begun["sound"] += 1
        await asyncio.sleep(1000)

    seen = view()
    await run_for(16 * RETRY_SECONDS, seen, {"broken": broken, "sound": sound})
    assert begun["broken"] == 5
    assert begun["sound"] == 1
    assert seen.events.broken == ["broken"]
    assert list(seen.control.notes) == ["job broken"]
    assert "ValueError: no" in seen.control.notes["job broken"]


async def test_members_are_followed_also_after_the_store_was_away() -> None:
    """Otherwise a node whose peers were all replaced would know none."""
    asked = 0

    class Store:
        async def refresh_endpoints(self) -> None:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise StoreUnavailable("away")

    seen = view(Store())
    await run_for(40, seen, {"members": follow_members})
    assert asked == 3
    assert seen.events.broken == []
