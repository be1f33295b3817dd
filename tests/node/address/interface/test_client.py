"""The service's side of the public address on an interface: what it asks, and what it makes of it.

The helper's socket is real, the address behind it is simulated.
"""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.address_helper import SimulatedHolder, helping
from tests.support.waiting import until_async

from openvcha.node.address import state
from openvcha.node.address.interface.client import (
    HelperLink,
    HelperUnreachableError,
    InterfaceAddress,
    obstacle,
)
from openvcha.node.address.interface.lifetime import UNPROVEN
from openvcha.node.address.interface.protocol import Answer, Request

LATEST = 30.0
MAC = "02:00:5e:00:00:02"
REQUEST = Request(do="refresh", interface="eth0", address="192.0.2.10")


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a short path: a Unix socket's address holds at most 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "helper.sock"


class Service:
    """The service's address, and the proof that it gives."""

    def __init__(self, path: Path) -> None:
        self.proven = 100.0
        link = HelperLink(str(path))
        self.address = InterfaceAddress(
            link, "eth0", "192.0.2.10", lambda: self.proven, sleep=self.sleep
        )
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Sleep a hundredth of it."""
        self.pauses.append(seconds)
        await asyncio.sleep(seconds / 100)


@pytest.fixture
async def service(place: Path) -> AsyncIterator[Service]:
    """Yield a service that keeps its address."""
    made = Service(place)
    keeping = asyncio.create_task(made.address.keep())
    yield made
    keeping.cancel()
    await asyncio.wait([keeping])
    await asyncio.sleep(0)


async def asked(holder: SimulatedHolder, do: str) -> None:
    """Wait until the helper gets one more request of a kind."""
    count = len(holder.asked)
    await until_async(lambda: do in [one for one, _ in holder.asked[count:]], LATEST, pause=0.005)


async def test_it_is_acquired_refreshed_and_released(place: Path, service: Service) -> None:
    """Each request has the proof of that moment."""
    async with helping(place) as holder:
        assert service.address.state == state.NOBODY
        await service.address.acquire()
        assert service.address.held
        assert service.address.state == state.HELD
        await asked(holder, "refresh")
        service.proven = 200.0
        await until_async(lambda: holder.asked[-1] == ("refresh", 200.0), LATEST)
        await service.address.release()
        assert not service.address.held
        assert not holder.holds


async def test_nothing_proven_is_told_as_no_time(place: Path, service: Service) -> None:
    """JSON knows no infinity."""
    async with helping(place) as holder:
        service.proven = UNPROVEN
        await service.address.acquire()
        assert holder.asked[-1] == ("acquire", 0.0)


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (Answer(state="conflict", mac=MAC), state.conflict(MAC)),
        (Answer(state="cannot", reason="eth0 is down"), state.cannot("eth0 is down")),
    ],
)
async def test_why_it_is_not_held_is_told(
    place: Path, service: Service, answer: Answer, shown: object
) -> None:
    """Who waits for it gets the reason, and is not asked to retry at once."""
    async with helping(place) as holder:
        holder.refuses = answer
        with pytest.raises(OSError, match=answer.mac or answer.reason):
            await service.address.acquire()
        assert service.address.state == shown
        assert not service.address.held
        assert 0.2 in service.pauses
        holder.refuses = None
        await service.address.acquire()
        assert service.address.held


async def test_an_address_that_is_lost_is_taken_again(place: Path, service: Service) -> None:
    """Somebody has removed it."""
    async with helping(place) as holder:
        await service.address.acquire()
        lost = asyncio.create_task(service.address.wait_until_lost())
        holder.holds = False
        await asyncio.wait_for(lost, LATEST)
        await until_async(lambda: service.address.held, LATEST)
        assert holder.holds


async def test_a_helper_that_is_gone_is_told_of_and_found_again(
    place: Path, service: Service
) -> None:
    """Without it the kernel removes the address; a new one is asked for it."""
    async with helping(place):
        await service.address.acquire()
    await until_async(lambda: not service.address.held, LATEST)
    await until_async(lambda: "helper" in service.address.state.detail, LATEST)
    async with helping(place) as holder:
        await until_async(lambda: service.address.held, LATEST)
        assert holder.holds


async def test_without_a_helper_nothing_is_held(service: Service) -> None:
    """The reason names the socket."""
    with pytest.raises(OSError, match=r"helper at .*helper\.sock: No such file"):
        await service.address.acquire()


async def test_the_address_is_released_when_the_service_is_gone(place: Path) -> None:
    """Even if it says nothing any more."""
    async with helping(place) as holder:
        link = HelperLink(str(place))
        ask = Request(do="acquire", interface="eth0", address="192.0.2.10", until=1.0)
        assert (await link.ask(ask)).holds
        link.close()
        await until_async(lambda: not holder.holds, LATEST)


async def test_a_silent_helper_is_given_up(place: Path) -> None:
    """It is frozen, say; then its late answer to one request is not taken for the next one's."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place))
        silent.listen()
        link = HelperLink(str(place), seconds=0.05)
        with pytest.raises(HelperUnreachableError, match="is silent"):
            await link.ask(REQUEST)
        assert link._streams is None
    await asyncio.sleep(0)


async def test_a_request_that_is_canceled_leaves_no_answer_behind(place: Path) -> None:
    """The next request would take it for its own."""
    async with helping(place) as holder:
        holder.delay = 60.0
        link = HelperLink(str(place))
        asking = asyncio.create_task(
            link.ask(Request(do="acquire", interface="eth0", address="192.0.2.10", until=1.0))
        )
        await until_async(lambda: ("acquire", 1.0) in holder.asked, LATEST, pause=0.005)
        asking.cancel()
        await asyncio.wait([asking])
        assert link._streams is None
        holder.stop.set()


@pytest.mark.parametrize(
    "said",
    [b"", b"what?\n", b'{"state":"mine"}\n', b'{"state":"held","mac":"\x1b"}\n', b"x" * 4096],
)
async def test_a_wrong_answer_is_none(place: Path, said: bytes) -> None:
    """Another program may listen there."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    async with await asyncio.start_unix_server(say, str(place)):
        link = HelperLink(str(place))
        with pytest.raises(HelperUnreachableError):
            await link.ask(REQUEST)
        assert link._streams is None
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("interface", "address", "why"),
    [
        ("eth0", "192.0.2.10", ""),
        ("eth1", "192.0.2.10", "configured for the interface eth0 only"),
        ("eth0", "192.0.2.11", "configured for the address 192.0.2.10 only"),
    ],
)
async def test_a_helper_tells_what_it_could_hold(
    place: Path, interface: str, address: str, why: str
) -> None:
    """Only what it is configured for."""
    async with helping(place):
        said = await obstacle(HelperLink(str(place)), interface, address)
    assert why in said
    assert bool(said) is bool(why)


async def test_a_look_at_the_helper_disturbs_no_holder(place: Path, service: Service) -> None:
    """Neither a look by the holder itself nor one by another program of the account."""
    async with helping(place) as holder:
        await service.address.acquire()
        assert await obstacle(HelperLink(str(place)), "eth0", "192.0.2.10") == ""
        await service.address.look()
        await asked(holder, "refresh")
        assert holder.holds
        assert service.address.held


async def test_a_node_that_does_not_lead_knows_that_its_helper_is_gone(
    place: Path, service: Service
) -> None:
    """Before the failover that would need it; it is not reported of one that leads."""
    watching = asyncio.create_task(service.address.watch())
    try:
        await until_async(lambda: service.address.obstacle is not None, LATEST)
        assert service.address.obstacle
        assert str(place) in service.address.obstacle.detail
        async with helping(place) as holder:
            await until_async(lambda: service.address.obstacle is None, LATEST)
            holder.refuses = Answer(state="cannot", reason="eth0 is down")
            await until_async(lambda: service.address.obstacle is not None, LATEST)
            assert service.address.obstacle == state.cannot("eth0 is down")
            holder.refuses = None
            await service.address.acquire()
            assert service.address.obstacle is None
    finally:
        watching.cancel()
        await asyncio.wait([watching])
