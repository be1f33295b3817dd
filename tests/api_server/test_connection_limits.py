"""The limits on connections, and which one is evicted for a new one."""

import asyncio
import resource
import socket
from itertools import count
from typing import Any

import pytest
from tests.support.edge import Served
from tests.support.raw_http import raw, rest_of

from openvcha.api_server.connection_limits import (
    DESCRIPTOR_DIVISOR,
    MAX_EVICTIONS_PER_SECOND,
    ClientConnection,
    ConnectionLimiter,
    part_of_connections,
    within_descriptor_limit,
)

MOST = 8
CROWD, OTHER = "192.0.2.1", "192.0.2.2"


def entered(
    limiter: ConnectionLimiter, origin: str, gone: list[Any], name: Any = None
) -> ClientConnection:
    """Admit a connection, which is added to ``gone`` when it is evicted."""
    client = limiter.admit(origin)
    assert client is not None
    client.end = lambda: gone.append(client if name is None else name)
    return client


@pytest.mark.parametrize(("workers", "part"), [(1, 400), (2, 200), (3, 134), (4, 100), (16, 100)])
def test_a_worker_has_its_part_of_the_connections(workers: int, part: int) -> None:
    """But room for an office with a few dozen clients behind one address."""
    assert part_of_connections(400, workers) == part
    assert part_of_connections(20, workers) == 20


def test_one_source_has_half_of_the_places() -> None:
    """Its own oldest connection makes room for its next one, no other source's."""
    limiter, gone = ConnectionLimiter(MOST, count().__next__), list[Any]()
    other = entered(limiter, OTHER, gone)
    crowd = [entered(limiter, CROWD, gone) for _ in range(MOST)]
    assert gone == crowd[: MOST // 2]
    assert (len(limiter), other.is_open) == (1 + MOST // 2, True)


def test_the_greediest_source_makes_room() -> None:
    """A source with one connection keeps it while another has two."""
    limiter, gone = ConnectionLimiter(MOST, count().__next__), list[Any]()
    others = [entered(limiter, f"198.51.100.{n}", gone) for n in range(MOST // 2)]
    crowd = [entered(limiter, CROWD, gone) for _ in range(MOST // 2)]
    entered(limiter, "203.0.113.1", gone)
    assert gone == crowd[:1]
    assert all(each.is_open for each in others)
    assert len(limiter) == MOST


def test_a_network_of_ipv6_is_one_source() -> None:
    """The holder of one of its addresses has all of them."""
    limiter, gone = ConnectionLimiter(MOST, count().__next__), list[Any]()
    for n in range(MOST):
        entered(limiter, f"2001:db8::{n:x}", gone)
    assert len(gone) == MOST // 2


def test_who_is_at_work_stays() -> None:
    """When all are busy, no new one is admitted; a connection that was answered is evicted last."""
    limiter, gone = ConnectionLimiter(MOST, count().__next__), list[Any]()
    crowd = [entered(limiter, CROWD, gone) for _ in range(MOST // 2)]
    for client in crowd:
        client.set_busy(True)
    assert limiter.admit(CROWD) is None
    for client in (crowd[1], crowd[0]):
        client.set_busy(False)
        client.set_busy(False)
    entered(limiter, CROWD, gone)
    assert gone == [crowd[1]]


def test_who_has_shown_a_session_goes_last() -> None:
    """A crowd without one evicts no session's connection, even from the same address."""
    limiter, gone = ConnectionLimiter(MOST, count().__next__), list[Any]()
    known = entered(limiter, CROWD, gone)
    known.mark_recognized()
    for _ in range(10 * MOST):
        entered(limiter, CROWD, gone)
    assert known.is_open
    crowd = [entered(limiter, f"198.51.100.{n}", gone) for n in range(10 * MOST)]
    assert known.is_open
    for client in crowd:
        client.mark_recognized()
    assert limiter.evict_idle()


def test_a_storm_is_turned_away() -> None:
    """Of a source that keeps connecting, only some make room per second."""
    now, gone = [0.0], list[Any]()
    limiter = ConnectionLimiter(MOST, lambda: now[0])
    came = 1000
    let_in = [limiter.admit(CROWD) for _ in range(came)]
    assert came - let_in.count(None) == MOST // 2 + MAX_EVICTIONS_PER_SECOND
    for _ in range(MOST):
        entered(limiter, OTHER, gone)
    now[0] += 1
    entered(limiter, CROWD, gone)


def test_who_has_gone_counts_no_more() -> None:
    """However often it is reported, and whatever is reported afterwards."""
    limiter, gone = ConnectionLimiter(MOST, count().__next__), list[Any]()
    client = entered(limiter, CROWD, gone)
    for _ in range(2):
        client.release()
        client.set_busy(True)
        client.set_busy(False)
    assert (len(limiter), gone, limiter._sources, limiter._idle) == (0, [], {}, {})
    assert not limiter.evict_idle()


def test_there_are_descriptors_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of them are reserved for everything else in the process."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert within_descriptor_limit(10_000) == 1024 // DESCRIPTOR_DIVISOR
    assert within_descriptor_limit(5) == 5
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1, 1))
    assert within_descriptor_limit(5) == 1


async def test_without_descriptors_an_idle_one_goes(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And accepting resumes as soon as one is free."""
    accept, failures = socket.socket.accept, [OSError(24, "too many open files")]

    def failing(listener: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return accept(listener)

    async with raw(served) as (first, _):
        monkeypatch.setattr(socket.socket, "accept", failing)
        async with raw(served), asyncio.timeout(60):
            assert failures == []
            assert await rest_of(first) == b""
