"""The store's size in an observation: queried seldom, and never in the way."""

import asyncio
from dataclasses import replace

import pytest
from tests.support.simulated.roomy import Simulated, simulated

from openvcha.cluster.observing.store_space import (
    ASK_SECONDS,
    CACHE_SECONDS,
    ROOMY_SECONDS,
    StoreSpace,
    StoreSpaceProbe,
)
from openvcha.store.interface import EndpointStatus

pytestmark = pytest.mark.looptime


class Slow(Simulated):
    """One member hangs."""

    async def status(self, endpoint: str) -> EndpointStatus:
        if endpoint.endswith("hangs"):
            await asyncio.sleep(3600)
        return await super().status(endpoint)


def looks(store: Simulated) -> StoreSpaceProbe:
    return StoreSpaceProbe(store, 1000, asyncio.get_running_loop().time)


async def test_the_largest_member_counts() -> None:
    """Its file, not the space in use."""
    found = await looks(simulated(0, a=10, b=700, c=20)).measure()
    assert found == StoreSpace("b", 700, 700, 1000, full=True)
    assert found.percent == 70


@pytest.mark.parametrize(
    ("size", "full", "seconds"),
    [(500, False, ROOMY_SECONDS), (510, False, CACHE_SECONDS), (500, True, CACHE_SECONDS)],
)
async def test_it_is_asked_again_after_some_seconds(size: int, full: bool, seconds: float) -> None:
    """Not with each observation, and rarely while there is room."""
    store = simulated(0, a=size)
    store.statuses["a"] = replace(store.statuses["a"], full=full)
    looking = looks(store)
    first = await looking.measure()
    store.statuses = simulated(0, a=20).statuses
    assert await looking.measure() == first
    await asyncio.sleep(seconds - 1)
    assert await looking.measure() == first
    await asyncio.sleep(1)
    again = await looking.measure()
    assert again is not None
    assert again.size == 20


async def test_who_has_just_listed_the_members_does_not_list_them_again() -> None:
    """Nor is a member queried that is not in that list."""
    store = simulated(0, a=10, b=20)
    members = await store.members()
    store.members = NotImplemented  # type: ignore[method-assign]  # nobody calls it
    first, second = await looks(store).measure(members), await looks(store).measure(members[:1])
    assert first is not None
    assert second is not None
    assert (first.member, second.member) == ("b", "a")


async def test_a_member_that_hangs_hides_no_other() -> None:
    """And delays an observation by less than its own probe does."""
    begun = asyncio.get_running_loop().time()
    found = await looks(Slow(simulated(0, a=10, hangs=900).statuses)).measure()
    assert found is not None
    assert found.member == "a"
    assert asyncio.get_running_loop().time() - begun < ASK_SECONDS


async def test_what_cannot_be_asked_is_unknown() -> None:
    """No member answers."""
    assert await looks(simulated(0, dead=900)).measure() is None
