"""Storms of new connections: handshakes take a bounded share of the API's time, fair by source."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from openvcha.api_server.connection_limits import ClientConnection, ConnectionLimiter
from openvcha.api_server.server.accept import (
    BURST_SECONDS,
    INITIAL_ESTIMATE_SECONDS,
    LOOP_SHARE,
    HandshakeScheduler,
)

CROWD, OFFICE = "203.0.113.9", "198.51.100.7"
MOST = 1000
BURST = round(BURST_SECONDS / INITIAL_ESTIMATE_SECONDS)
A_SECOND = round(LOOP_SHARE / INITIAL_ESTIMATE_SECONDS)

pytestmark = pytest.mark.looptime


class Storm:
    """Accepted connections; ``begun`` has the sources whose TLS has begun, in order."""

    def __init__(self) -> None:
        self.limiter = ConnectionLimiter(MOST)
        self.begun: list[str] = []
        self.sockets: list[socket.socket] = []
        self.handshakes = HandshakeScheduler(self._begin)

    def _begin(self, accepted: socket.socket, client: ClientConnection) -> None:
        self.begun.append(client.source if client.is_open and accepted.fileno() >= 0 else "nobody")

    def come(self, source: str, count: int = 1) -> list[ClientConnection]:
        """Accept this many connections from a source."""
        clients = [self.limiter.admit(source) for _ in range(count)]
        for client in clients:
            assert client is not None
            self.sockets.append(socket.socket())
            self.handshakes.add(self.sockets[-1], client)
        return [client for client in clients if client is not None]


@pytest.fixture
async def storm() -> AsyncIterator[Storm]:
    made = Storm()
    yield made
    made.handshakes.close()
    for each in made.sockets:
        each.close()


async def test_handshakes_take_a_part_of_the_time(storm: Storm) -> None:
    """However many arrive at once."""
    storm.come(CROWD, MOST // 2)
    assert len(storm.begun) <= BURST + 1
    await asyncio.sleep(1)
    assert A_SECOND - 1 <= len(storm.begun) <= BURST + A_SECOND + 1
    await asyncio.sleep(MOST / A_SECOND)
    assert len(storm.begun) == MOST // 2


async def test_slow_handshakes_are_begun_less_often(storm: Storm) -> None:
    """As where other programs take the CPU."""
    for _ in range(200):
        storm.handshakes.note_duration(10 * INITIAL_ESTIMATE_SECONDS)
    storm.come(CROWD, MOST // 2)
    await asyncio.sleep(10)
    assert 0.9 * A_SECOND < len(storm.begun) < 1.2 * A_SECOND


async def test_a_storm_from_one_source_holds_no_other_up(storm: Storm) -> None:
    """A newcomer from elsewhere is next."""
    storm.come(CROWD, MOST // 2)
    before = len(storm.begun)
    storm.come(OFFICE)
    await asyncio.sleep(3 / A_SECOND)
    assert OFFICE in storm.begun[before : before + 2]


async def test_a_storm_from_everywhere_holds_nobody_up_who_was_there_before(storm: Storm) -> None:
    """The storm's sources are equal to any other, except to one that has presented a session."""
    storm.come(OFFICE)[0].mark_recognized()
    for number in range(MOST // 2):
        storm.come(f"10.0.{number // 256}.{number % 256}")
    before = len(storm.begun)
    storm.come(OFFICE)
    await asyncio.sleep(3 / A_SECOND)
    assert OFFICE in storm.begun[before : before + 2]


async def test_a_storm_from_where_somebody_is_known_holds_no_stranger_up(storm: Storm) -> None:
    """For example a greedy reader with a session, or an attacker behind a user's address."""
    storm.come(CROWD)[0].mark_recognized()
    storm.come(CROWD, MOST // 4)
    before = len(storm.begun)
    storm.come(OFFICE)
    await asyncio.sleep(3 / A_SECOND)
    assert OFFICE in storm.begun[before : before + 2]


async def test_who_makes_room_before_his_turn_is_closed(storm: Storm) -> None:
    """Its handshake is never begun."""
    waiting = storm.come(CROWD, 2 * BURST)
    begun = len(storm.begun)
    while storm.limiter.evict_idle():
        pass
    await asyncio.sleep(10)
    assert len(storm.begun) == begun
    assert sum(each.fileno() < 0 for each in storm.sockets) == len(waiting) - begun


async def test_who_waits_is_closed_with_the_server(storm: Storm) -> None:
    """No handshake begins after that, and none is counted any more."""
    storm.come(CROWD, 2 * BURST)
    begun = len(storm.begun)
    storm.handshakes.close()
    await asyncio.sleep(10)
    assert len(storm.begun) == begun == len(storm.limiter)
