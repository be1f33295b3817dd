"""The active's services: they run exactly while it leads, and no client outlives them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from openvcha.daemon.leading.active_services import ActiveServices
from openvcha.node.address.state import HELD, NOBODY
from openvcha.store.address_reports import AddressState

pytestmark = pytest.mark.looptime


@dataclass
class Address:
    """Simulated: an address that another node may hold."""

    log: list[str]
    taken: bool = False
    held: bool = False

    def __post_init__(self) -> None:
        self.lost = asyncio.Event()

    @property
    def state(self) -> AddressState:
        return HELD if self.held else NOBODY

    async def wait_until_lost(self) -> None:
        await self.lost.wait()
        self.lost.clear()

    def lose(self) -> None:
        """Lose it to another process, as when the switch ends."""
        self.held = False
        self.log.append("address lost")
        self.lost.set()

    async def acquire(self) -> None:
        if self.taken:
            raise OSError("taken")
        if not self.held:
            self.held = True
            self.log.append("address")

    async def release(self) -> None:
        if self.held:
            self.held = False
            self.log.append("-address")


@dataclass
class Api:
    """Simulated: the link to the API's process."""

    log: list[str]
    serves: bool = False

    def serve(self) -> None:
        if not self.serves:
            self.serves = True
            self.log.append("api")

    def end(self) -> None:
        if self.serves:
            self.serves = False
            self.log.append("-api")


class ServicesHarness:
    """The services with everything around them simulated."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.address, self.api = Address(self.log), Api(self.log)
        self.unready = 0
        self.ending = 0.0
        self.leads: asyncio.Queue[bool] = asyncio.Queue()
        self.reported: list[tuple[bool, bool]] = []
        services = ActiveServices(
            self.prepare,
            self.address,
            self.api,
            "127.0.0.1",
            self.work,
            report_address=lambda leads: self.reported.append((leads, self.address.held)),
        )
        self.following = asyncio.create_task(services.follow(self.changes()))

    async def prepare(self) -> None:
        if self.unready:
            self.unready -= 1
            raise LookupError("not yet")

    async def work(self) -> None:
        self.log.append("tasks")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(self.ending)
            self.log.append("-tasks")

    async def changes(self) -> AsyncIterator[bool]:
        while True:
            yield await self.leads.get()

    async def set(self, leads: bool, seconds: float = 1.0) -> None:
        await self.leads.put(leads)
        await asyncio.sleep(seconds)


@pytest.fixture
async def harness() -> AsyncIterator[ServicesHarness]:
    made = ServicesHarness()
    yield made
    made.following.cancel()
    await asyncio.wait([made.following])
    assert not made.address.held
    assert not made.api.serves


async def test_it_serves_while_it_leads(harness: ServicesHarness) -> None:
    """On, off, and on again."""
    await harness.set(leads=True)
    assert sorted(harness.log) == ["address", "api", "tasks"]
    await harness.set(leads=False)
    assert sorted(harness.log[3:]) == ["-address", "-api", "-tasks"]
    await harness.set(leads=True)
    assert sorted(harness.log[6:]) == ["address", "api", "tasks"]


async def test_clients_go_first_when_it_ends(harness: ServicesHarness) -> None:
    """The tasks' end may have to wait for the store; an open session must not wait with it."""
    harness.ending = 30.0
    await harness.set(leads=True)
    await harness.set(leads=False, seconds=0.1)
    assert harness.log[3:] == ["-api", "-address"]
    await asyncio.sleep(31)
    assert harness.log[3:] == ["-api", "-address", "-tasks"]


async def test_tasks_go_on_while_the_address_is_taken(harness: ServicesHarness) -> None:
    """A frozen former active may hold it for long; it may take a task to release it."""
    harness.address.taken = True
    await harness.set(leads=True)
    assert harness.log == ["tasks"]
    harness.address.taken = False
    await asyncio.sleep(1)
    assert harness.log == ["tasks", "address", "api"]


async def test_an_address_is_taken_as_soon_as_it_is_free(harness: ServicesHarness) -> None:
    """Clients are waiting for it."""
    harness.address.taken = True
    await harness.set(leads=True)
    harness.address.taken = False
    await asyncio.sleep(0.05)
    assert harness.address.held


async def test_no_api_is_shown_before_it_is_prepared(harness: ServicesHarness) -> None:
    """A failed preparation is retried; the data are reachable meanwhile."""
    harness.unready = 3
    await harness.set(leads=True, seconds=0.15)
    assert harness.log == ["address"]
    await asyncio.sleep(2)
    assert sorted(harness.log) == ["address", "api", "tasks"]


async def test_an_end_in_the_middle_of_a_beginning_leaves_nothing(harness: ServicesHarness) -> None:
    """Flapping leadership: off before the address was held."""
    harness.address.taken = True
    await harness.set(leads=True)
    assert not harness.address.held
    await harness.set(leads=False)
    harness.address.taken = False
    await asyncio.sleep(1)
    assert harness.log == ["tasks", "-tasks"]


async def test_each_time_it_leads_the_api_waits_until_there_is_something_to_show(
    harness: ServicesHarness,
) -> None:
    """An earlier preparation does not count."""
    await harness.set(leads=True)
    await harness.set(leads=False)
    harness.unready = 20
    await harness.set(leads=True)
    assert not harness.api.serves
    assert harness.address.held
    await asyncio.sleep(5)
    assert harness.api.serves


async def test_an_address_that_is_lost_is_taken_again(harness: ServicesHarness) -> None:
    """The process that listens for it may crash; the API and the tasks go on."""
    await harness.set(leads=True)
    harness.address.lose()
    await asyncio.sleep(0.05)
    assert harness.log[3:] == ["address lost", "address"]
    assert harness.api.serves


async def test_each_change_of_the_address_is_reported_at_once(harness: ServicesHarness) -> None:
    """As (leads, holds): a task waits for it."""
    harness.address.taken = True
    await harness.set(leads=True)
    assert harness.reported == [(True, False)]
    harness.address.taken = False
    await asyncio.sleep(1)
    assert harness.reported[1:] == [(True, True)]
    harness.address.taken = True
    harness.address.lose()
    await asyncio.sleep(1)
    assert harness.reported[2:] == [(True, False)]
    await harness.set(leads=False)
    assert harness.reported[3:] == [(False, False)]
