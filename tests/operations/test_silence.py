"""A node that the cluster cannot power off counts as off after all its parts stayed silent."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.observations import configured

from openvcha.cluster.config import NodeKind
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.node.identity import Ports
from openvcha.operations.steps.votes.quorum import SilenceWatch
from openvcha.store import keys
from openvcha.store.errors import StoreUnavailable
from openvcha.system.silence import MAX_GAP_SECONDS, MIN_PROBES, SILENCE_SECONDS

pytestmark = SIMULATED

NODE = configured("b-2", NodeKind.DATA, 2)


class Beside:
    """A node as seen from outside."""

    def __init__(self) -> None:
        self.etcd = self.patroni = self.registered = self.store_away = False
        self.frozen = 0.0
        self.identity = SimpleNamespace(ports=Ports())
        self.store = SimpleNamespace(healthy=self._healthy, get=self._get)

    async def _healthy(self, endpoint: str, seconds: float) -> bool:
        assert NODE.ha_address in endpoint
        del seconds
        await asyncio.sleep(self.frozen)
        return self.etcd

    async def _get(self, key: str) -> object | None:
        assert key == keys.patroni_member("b-2")
        if self.store_away:
            raise StoreUnavailable("away")
        return object() if self.registered else None

    async def node(self, address: str) -> None:
        if not self.patroni:
            raise PatroniUnreachable(address)


def silence(beside: Beside) -> SilenceWatch:
    services: Any = SimpleNamespace(
        store=beside.store,
        identity=beside.identity,
        patroni=SimpleNamespace(node=beside.node),
    )
    return SilenceWatch(services)


async def after(watched: SilenceWatch, seconds: float) -> str | None:
    """Observe, a second at a time, and return the wait's message at the end."""
    for _ in range(int(seconds)):
        await watched.unmet(NODE)
        await asyncio.sleep(1)
    reason = await watched.unmet(NODE)
    return reason.id.rpartition("vcha.")[2] if reason else None


async def test_silence_has_to_last() -> None:
    """Neither one missed answer nor twenty suffice: a node may be frozen or migrated for longer."""
    assert SILENCE_SECONDS >= 30
    watched = silence(Beside())
    assert await after(watched, 0) == "fence.silence"
    assert await after(watched, SILENCE_SECONDS - 2) == "fence.silence"
    assert await after(watched, 2) is None


@pytest.mark.parametrize("part", ["etcd", "patroni", "registered"])
async def test_any_answer_of_anything_begins_the_time_again(part: str) -> None:
    """A node that was frozen for 25 seconds is not off."""
    beside = Beside()
    watched = silence(beside)
    assert await after(watched, SILENCE_SECONDS - 5) == "fence.silence"
    setattr(beside, part, True)
    assert await after(watched, 0) == "fence.still.answers"
    setattr(beside, part, False)
    assert await after(watched, SILENCE_SECONDS - 5) == "fence.silence"
    assert await after(watched, 6) is None


@pytest.mark.parametrize("seconds", [MAX_GAP_SECONDS + 1, SILENCE_SECONDS, 3600.0])
async def test_looks_that_lie_far_apart_are_no_silence(seconds: float) -> None:
    """The observer was frozen itself, or without a store: the node may have answered meanwhile."""
    watched = silence(Beside())
    assert await after(watched, SILENCE_SECONDS - 2) == "fence.silence"
    await asyncio.sleep(seconds)
    assert await after(watched, 0) == "fence.silence"
    assert await after(watched, SILENCE_SECONDS - 2) == "fence.silence"
    assert await after(watched, 2) is None


async def test_a_look_that_fails_begins_the_time_again() -> None:
    """What could not be observed was no silence."""
    beside = Beside()
    watched = silence(beside)
    assert await after(watched, SILENCE_SECONDS - 2) == "fence.silence"
    beside.store_away = True
    with pytest.raises(StoreUnavailable):
        await watched.unmet(NODE)
    beside.store_away = False
    assert await after(watched, SILENCE_SECONDS - 2) == "fence.silence"


async def test_silence_is_never_a_few_looks() -> None:
    """One answer may be missed by chance, and so may a second."""
    watched = silence(Beside())
    for _ in range(MIN_PROBES - 1):
        assert await watched.unmet(NODE)
        await asyncio.sleep(MAX_GAP_SECONDS)
    assert await watched.unmet(NODE) is None


async def test_a_look_that_takes_long_is_not_without_a_break() -> None:
    """A process that is frozen while it waits for an answer misses it."""
    beside = Beside()
    watched = silence(beside)
    assert await after(watched, 5) == "fence.silence"
    beside.frozen = SILENCE_SECONDS
    assert await after(watched, 0) == "fence.silence"
    beside.frozen = 0.0
    assert await after(watched, SILENCE_SECONDS - 2) == "fence.silence"
