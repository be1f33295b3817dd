"""The proof that no other node can lead: never longer than what the store has said."""

import asyncio

import pytest

from openvcha.daemon.leading.leader_proof import ALONE_SECONDS, ANSWER_SECONDS, LeaderProof
from openvcha.node.address.interface.lifetime import UNPROVEN
from openvcha.store.errors import LeaseNotFound, StoreUnavailable

pytestmark = pytest.mark.looptime
TTL = 20


class Asking:
    """SIMULATED: a store that answers late, or not at all."""

    def __init__(self) -> None:
        self.seconds = 18
        self.delay = 0.0
        self.error: Exception | None = None
        self.proof = LeaderProof(self.remaining, TTL, asyncio.get_running_loop().time)

    async def remaining(self, lease: int) -> int:
        """Return how long the lease remains."""
        assert lease == 7
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        return self.seconds


@pytest.fixture
async def store() -> Asking:
    """Return a store."""
    return Asking()


def now() -> float:
    """Return the time of the test."""
    return asyncio.get_running_loop().time()


async def test_it_begins_without_a_proof(store: Asking) -> None:
    """Nothing was asked yet."""
    assert store.proof.until == UNPROVEN


async def test_the_time_of_the_question_counts(store: Asking) -> None:
    """When the store had looked, nobody knows: not later than the answer."""
    store.delay = 0.5
    asked = now()
    await store.proof.renew(7)
    assert store.proof.until == asked + 18


async def test_no_answer_is_longer_than_the_ttl(store: Asking) -> None:
    """A member of the store may lie."""
    store.seconds = 10**9
    asked = now()
    await store.proof.renew(7)
    assert store.proof.until == asked + TTL


@pytest.mark.parametrize("error", [StoreUnavailable("no quorum"), LeaseNotFound("gone", 5), None])
async def test_no_answer_proves_nothing_new(store: Asking, error: Exception | None) -> None:
    """What was proven before stays proven."""
    await store.proof.renew(7)
    until = store.proof.until
    store.error, store.delay = error, 0.0 if error else 60.0
    asked = now()
    await store.proof.renew(7)
    assert store.proof.until == until
    assert now() - asked <= ANSWER_SECONDS


async def test_an_answer_that_comes_after_the_end_is_void(store: Asking) -> None:
    """The key has changed since the question."""
    store.delay = 0.5
    renewing = asyncio.create_task(store.proof.renew(7))
    await asyncio.sleep(0.2)
    store.proof.end()
    await renewing
    assert store.proof.until == UNPROVEN
    asked = store.proof.ask()
    store.proof.end()
    store.proof.alone(asked)
    assert store.proof.until == UNPROVEN


async def test_alone_it_is_proven_for_a_while(store: Asking) -> None:
    """Until the next reply of its own Patroni has come."""
    asked = store.proof.ask()
    await asyncio.sleep(1)
    store.proof.alone(asked)
    assert store.proof.until == asked.at + ALONE_SECONDS
