"""The report of the public address: held at once, not held once it lasts, nothing otherwise."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from openvcha.daemon.public_address.reporter import LEASE_SECONDS, VERDICT_SECONDS, AddressReporter
from openvcha.node.address.state import HELD, NOBODY, cannot, conflict
from openvcha.store import address_reports, keys
from openvcha.store.address_reports import AddressState
from openvcha.store.errors import StoreUnavailable
from openvcha.store.memory import MemoryStore

pytestmark = pytest.mark.looptime
MEMBER = "a-1"
KEY = keys.address_report(MEMBER)
SOON = 0.1


class CountingStore(MemoryStore):
    """A simulated store that counts writes, and may be unavailable."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = 0
        self.unavailable = False

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        if self.unavailable:
            raise StoreUnavailable("no quorum")
        self.puts += 1
        return await super().put(key, value, lease)

    async def delete(self, key: str) -> bool:
        if self.unavailable:
            raise StoreUnavailable("no quorum")
        return await super().delete(key)


@dataclass
class Reporting:
    """A reporter, and what its node knows of the address."""

    store: CountingStore = field(default_factory=CountingStore)
    state: AddressState = NOBODY
    obstacle: AddressState | None = None

    def __post_init__(self) -> None:
        self.reporter = AddressReporter(
            self.store,
            MEMBER,
            lambda: self.state,
            obstacle=lambda: self.obstacle,
            monotonic=seconds,
        )

    async def set(self, state: AddressState, *, leads: bool = True) -> None:
        """Change the state, and let the reporter act."""
        self.state = state
        self.reporter.note(leads=leads)
        await asyncio.sleep(SOON)

    async def told(self) -> AddressState | None:
        found = await self.store.get(KEY)
        return address_reports.decode(found.value) if found else None


def seconds() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
async def reporting() -> AsyncIterator[Reporting]:
    made = Reporting()
    running = asyncio.create_task(made.reporter.run())
    await asyncio.sleep(SOON)
    yield made
    running.cancel()
    await asyncio.wait([running])


async def test_an_address_that_is_held_is_reported_at_once(reporting: Reporting) -> None:
    """A failover waits for it."""
    await reporting.set(HELD)
    assert await reporting.told() == HELD


@pytest.mark.parametrize("state", [NOBODY, cannot("it is taken"), conflict("02:00:00:00:00:01")])
async def test_one_that_is_not_held_is_reported_once_that_lasts(
    reporting: Reporting, state: AddressState
) -> None:
    """Until then nothing is known; what was reported before no longer holds."""
    await reporting.set(HELD)
    await reporting.set(state)
    assert await reporting.told() is None
    await asyncio.sleep(VERDICT_SECONDS + 2)
    assert await reporting.told() == state
    await reporting.set(HELD)
    assert await reporting.told() == HELD


async def test_a_state_that_flaps_is_no_verdict(reporting: Reporting) -> None:
    """Each time it is held, the wait begins anew."""
    for _ in range(5):
        await reporting.set(NOBODY)
        await asyncio.sleep(VERDICT_SECONDS - 1)
        assert await reporting.told() is None
        await reporting.set(HELD)


async def test_a_change_that_nobody_announces_is_noticed(reporting: Reporting) -> None:
    """Another machine may begin to answer for the address."""
    await reporting.set(HELD)
    reporting.state = conflict("02:00:00:00:00:01")
    await asyncio.sleep(VERDICT_SECONDS + 3)
    assert await reporting.told() == reporting.state


async def test_a_node_that_does_not_lead_reports_nothing(reporting: Reporting) -> None:
    """Its former report does not survive its leadership."""
    await reporting.set(HELD)
    await reporting.set(HELD, leads=False)
    assert await reporting.told() is None
    await asyncio.sleep(100)
    assert await reporting.told() is None


async def test_a_report_that_a_former_service_has_left_is_deleted() -> None:
    """It may have been killed while it held the address."""
    made = Reporting()
    await made.store.put(KEY, address_reports.encode(HELD))
    running = asyncio.create_task(made.reporter.run())
    await asyncio.sleep(SOON)
    assert await made.told() is None
    running.cancel()
    await asyncio.wait([running])


async def test_a_frozen_service_s_report_expires(reporting: Reporting) -> None:
    """Its node may lead again later, before it holds the address."""
    running = Reporting(reporting.store, HELD)
    frozen = asyncio.create_task(running.reporter.run())
    await running.set(HELD)
    frozen.cancel()
    await asyncio.wait([frozen])
    await asyncio.sleep(LEASE_SECONDS + 2)
    assert await running.told() is None


async def test_an_unchanged_report_costs_no_write(reporting: Reporting) -> None:
    """Only its lease is renewed."""
    await reporting.set(HELD)
    before = reporting.store.puts
    await asyncio.sleep(10 * LEASE_SECONDS)
    assert await reporting.told() == HELD
    assert reporting.store.puts == before


async def test_without_a_store_it_is_reported_later(reporting: Reporting) -> None:
    """As soon as the store responds."""
    reporting.store.unavailable = True
    await reporting.set(HELD)
    assert await reporting.told() is None
    await asyncio.sleep(30)
    reporting.store.unavailable = False
    await asyncio.sleep(2)
    assert await reporting.told() == HELD
    reporting.store.unavailable = True
    await reporting.set(HELD, leads=False)
    reporting.store.unavailable = False
    await asyncio.sleep(2)
    assert await reporting.told() is None


async def test_a_node_that_does_not_lead_reports_what_would_keep_the_address_away(
    reporting: Reporting,
) -> None:
    """Once that has lasted, and until it is over; as the leader it reports the address itself."""
    reporting.obstacle = cannot("its helper is silent")
    await reporting.set(NOBODY, leads=False)
    assert await reporting.told() is None
    await asyncio.sleep(VERDICT_SECONDS + 3)
    assert await reporting.told() == reporting.obstacle
    await asyncio.sleep(10 * LEASE_SECONDS)
    assert await reporting.told() == reporting.obstacle
    await reporting.set(HELD)
    assert await reporting.told() == HELD
    reporting.obstacle = None
    await reporting.set(HELD, leads=False)
    await asyncio.sleep(VERDICT_SECONDS + 3)
    assert await reporting.told() is None


async def test_a_new_leader_has_time_to_take_the_address(reporting: Reporting) -> None:
    """What kept it away before is no verdict on what it does now."""
    reporting.obstacle = cannot("its helper is silent")
    await reporting.set(NOBODY, leads=False)
    await asyncio.sleep(VERDICT_SECONDS + 3)
    await reporting.set(NOBODY)
    assert await reporting.told() is None
