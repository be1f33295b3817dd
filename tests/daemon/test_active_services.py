"""The active's services: they run exactly while it leads, and no client outlives them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from openvcha.daemon.active_services import ActiveServices

pytestmark = pytest.mark.looptime


@dataclass
class Address:
    """Simulated: an address that another node may hold."""

    log: list[str]
    taken: bool = False
    held: bool = False

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


class Stage:
    """The services with everything around them simulated."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.address, self.api = Address(self.log), Api(self.log)
        self.unready = 0
        self.ending = 0.0
        self.leads: asyncio.Queue[bool] = asyncio.Queue()
        services = ActiveServices(self.prepare, self.address, self.api, "127.0.0.1", self.work)
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
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    made.following.cancel()
    await asyncio.wait([made.following])
    assert not made.address.held
    assert not made.api.serves


async def test_it_serves_while_it_leads(stage: Stage) -> None:
    """On, off, and on again."""
    await stage.set(leads=True)
    assert sorted(stage.log) == ["address", "api", "tasks"]
    await stage.set(leads=False)
    assert sorted(stage.log[3:]) == ["-address", "-api", "-tasks"]
    await stage.set(leads=True)
    assert sorted(stage.log[6:]) == ["address", "api", "tasks"]


async def test_clients_go_first_when_it_ends(stage: Stage) -> None:
    """The tasks' end may have to wait for the store; an open session must not wait with it."""
    stage.ending = 30.0
    await stage.set(leads=True)
    await stage.set(leads=False, seconds=0.1)
    assert stage.log[3:] == ["-api", "-address"]
    await asyncio.sleep(31)
    assert stage.log[3:] == ["-api", "-address", "-tasks"]


async def test_tasks_go_on_while_the_address_is_taken(stage: Stage) -> None:
    """A frozen former active may hold it for long; it may take a task to release it."""
    stage.address.taken = True
    await stage.set(leads=True)
    assert stage.log == ["tasks"]
    stage.address.taken = False
    await asyncio.sleep(1)
    assert stage.log == ["tasks", "address", "api"]


async def test_an_address_is_taken_as_soon_as_it_is_free(stage: Stage) -> None:
    """Clients are waiting for it."""
    stage.address.taken = True
    await stage.set(leads=True)
    stage.address.taken = False
    await asyncio.sleep(0.05)
    assert stage.address.held


async def test_no_api_is_shown_before_it_is_prepared(stage: Stage) -> None:
    """A failed preparation is retried; the data are reachable meanwhile."""
    stage.unready = 3
    await stage.set(leads=True, seconds=0.15)
    assert stage.log == ["address"]
    await asyncio.sleep(2)
    assert sorted(stage.log) == ["address", "api", "tasks"]


async def test_an_end_in_the_middle_of_a_beginning_leaves_nothing(stage: Stage) -> None:
    """Flapping leadership: off before the address was held."""
    stage.address.taken = True
    await stage.set(leads=True)
    assert not stage.address.held
    await stage.set(leads=False)
    stage.address.taken = False
    await asyncio.sleep(1)
    assert stage.log == ["tasks", "-tasks"]


async def test_each_time_it_leads_the_api_waits_until_there_is_something_to_show(
    stage: Stage,
) -> None:
    """An earlier preparation does not count."""
    await stage.set(leads=True)
    await stage.set(leads=False)
    stage.unready = 20
    await stage.set(leads=True)
    assert not stage.api.serves
    assert stage.address.held
    await asyncio.sleep(5)
    assert stage.api.serves
