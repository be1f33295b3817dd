"""A supervisor's jobs besides keeping its parts running."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from openvcha.node.background.context import RETRY_SECONDS, NodeContext
from openvcha.node.background.registry import REFRESH_SECONDS, follow_members, run_jobs
from openvcha.node.identity import Ports
from openvcha.store.errors import StoreUnavailable

pytestmark = pytest.mark.looptime

OWN, OTHER = "https://127.83.2.11:2379", "https://127.83.2.12:2379"


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
    identity = SimpleNamespace(ha_address="127.83.2.11", ports=Ports())
    return SimpleNamespace(events=Events(), store=store, control=control, identity=identity)


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
        async def refresh_endpoints(self) -> tuple[str, ...]:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise StoreUnavailable("away")
            return (OWN,)

    seen = view(Store())
    await run_for(2.5 * REFRESH_SECONDS, seen, {"members": follow_members})
    assert asked == 3
    assert seen.events.broken == []


async def test_the_own_member_is_asked_first_once_it_has_a_quorum() -> None:
    """The others' members have their own nodes to serve."""

    class Store:
        endpoints = (OTHER, OWN)
        healthy_after = 2
        probes = 0

        async def refresh_endpoints(self) -> tuple[str, ...]:
            return self.endpoints

        async def healthy(self, endpoint: str, _: float) -> bool:
            assert endpoint == OWN
            self.probes += 1
            return self.probes > self.healthy_after

        def prefer(self, endpoint: str) -> None:
            self.endpoints = (endpoint, OTHER)

    store = Store()
    await run_for(2.5 * REFRESH_SECONDS, view(store), {"members": follow_members})
    assert (store.endpoints, store.probes) == ((OWN, OTHER), 3)
    store.healthy_after = 9
    await run_for(2.5 * REFRESH_SECONDS, view(store), {"members": follow_members})
    assert store.probes == 3, "it is the first one already"
