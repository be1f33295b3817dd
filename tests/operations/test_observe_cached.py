"""Showing the cluster may use a recent observation; deciding needs a new one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.scenes import CALLER, ClusterScenario

from openvcha.api.structures import ClusterMode
from openvcha.cluster.config import cluster_record
from openvcha.cluster.observing.observer import CACHE_SECONDS, Observer
from openvcha.operations.context import Services
from openvcha.operations.reads import get_cluster, get_operations
from openvcha.store import keys
from openvcha.store.errors import StoreUnavailable
from openvcha.store.mirror import FRESH_SECONDS, Mirror

pytestmark = SIMULATED

MOMENT = 0.001
"""More than what a sum of simulated times may be off."""


class Shown:
    """A healthy cluster with services that mirror its store, and their number of observations."""

    def __init__(self, services: Services) -> None:
        self.world: Any = services.store
        time = asyncio.get_running_loop().time
        self.mirror = Mirror(services.store, clock=time)
        self.looks = 0
        store: Any = Through(self.mirror, services.store, self)
        observer = Observer(
            store,
            services.patroni,
            change_number=self.mirror.change_number,
            lag_limit=services.identity.timers.replication_lag,
            monotonic=time,
        )
        self.services = replace(services, store=store, observer=observer)

    async def mode(self) -> ClusterMode | None:
        return (await get_cluster(self.services, CALLER, partial=True)).mode


class Through:
    """The mirror, with the membership of the cluster's store, which the mirror does not have."""

    def __init__(self, mirror: Mirror, store: Any, shown: Shown) -> None:
        self._mirror, self._store, self._shown = mirror, store, shown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mirror, name, None) or getattr(self._store, name)

    async def get_many_and_members(self, names: Sequence[str]) -> Any:
        """Count the observations: each one asks for the members."""
        self._shown.looks += 1
        return await self._store.get_many_and_members(names)


@pytest.fixture
async def shown(scene: ClusterScenario) -> AsyncIterator[Shown]:
    await scene.healthy()
    made = Shown(scene.process().services)
    following = asyncio.create_task(made.mirror.follow())
    await asyncio.sleep(1)
    yield made
    following.cancel()
    await asyncio.wait([following])


async def test_one_look_serves_all_who_ask_just_then(shown: Shown) -> None:
    """And for no longer."""
    for _ in range(20):
        await shown.mode()
        await get_operations(shown.services, CALLER)
    assert shown.looks == 1
    await asyncio.sleep(CACHE_SECONDS + MOMENT)
    await shown.mode()
    assert shown.looks == 2


async def test_who_decides_looks_anew(shown: Shown) -> None:
    """An operation depends on what is true after the request."""
    await shown.mode()
    await shown.services.observe()
    assert shown.looks == 2


async def test_a_change_of_the_store_is_shown_at_once_or_after_the_bound(shown: Shown) -> None:
    """One by this program at once, one by another at the latest after FRESH_SECONDS."""
    assert await shown.mode() is ClusterMode.ENABLED
    await change(shown.services.store, ClusterMode.MAINTENANCE)
    assert await shown.mode() is ClusterMode.MAINTENANCE
    await change(shown.world, ClusterMode.ENABLED)
    await asyncio.sleep(FRESH_SECONDS + MOMENT)
    assert await shown.mode() is ClusterMode.ENABLED


@pytest.mark.parametrize("key", [keys.PATRONI_LEADER, keys.PATRONI_SYNC, keys.PATRONI_CONFIG])
async def test_who_leads_and_who_may_is_such_a_change(shown: Shown, key: str) -> None:
    """Rewriting the key unchanged is enough to invalidate the observation."""
    await shown.mode()
    found = await shown.world.get(key)
    await shown.world.put(key, found.value if found else b"{}", found.lease if found else 0)
    await asyncio.sleep(FRESH_SECONDS + MOMENT)
    await shown.mode()
    assert shown.looks == 2


async def test_without_the_store_no_look_is_shown(shown: Shown) -> None:
    """Not even a recent one."""
    await shown.mode()
    await asyncio.sleep(FRESH_SECONDS + MOMENT)

    async def away(_: str) -> Any:
        raise StoreUnavailable("away")

    shown.world.snapshot = away  # the store is away
    with pytest.raises(StoreUnavailable):
        await shown.mode()


async def change(store: Any, mode: ClusterMode) -> None:
    """Write another mode, as a task's step does."""
    await cluster_record(store).update(lambda config: structs.replace(config, mode=mode))
