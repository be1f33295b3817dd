"""What a command says when it cannot see the cluster: standing alone is rarely the remedy."""

import asyncio
from typing import Any

import pytest
from tests.support.node_files import identity

from openvcha.daemon.recovery import store_refusal
from openvcha.daemon.recovery.store_refusal import (
    ATTEMPT_SECONDS,
    ATTEMPTS,
    FailedAttempt,
    OwnStore,
    StoreRefusal,
    ask_own_store,
    explain,
    observe_repeatedly,
    own_store,
)
from openvcha.node.recovery.probe import ProbeReply, ReplyKind
from openvcha.store.errors import StoreFull, StoreUnavailable

pytestmark = pytest.mark.looptime


def subclasses(kind: type[StoreUnavailable]) -> list[type[StoreUnavailable]]:
    return [kind, *(one for child in kind.__subclasses__() for one in subclasses(child))]


WORDS = {
    "StoreUnavailable": "the store is unavailable",
    "StoreFull": "vcha node store defragment",
    "OutcomeUnknown": "did not acknowledge a write",
    "ClusterUnhealthy": "lost contact with each other",
    "AuthenticationFailed": "rejects this node's account",
}
"""A new kind of error needs a line here, and a decision."""


def attempts(error: StoreUnavailable | TimeoutError, *own: OwnStore) -> list[FailedAttempt]:
    return [FailedAttempt(error, one) for one in own]


@pytest.mark.parametrize("kind", subclasses(StoreUnavailable))
@pytest.mark.parametrize("own", list(OwnStore))
def test_each_error_has_its_own_reason(kind: type[StoreUnavailable], own: OwnStore) -> None:
    """Only a store that lacks a quorum, and fails for no other reason, may have to be left."""
    found = explain(attempts(kind("the text"), *[own] * ATTEMPTS))
    if kind is StoreUnavailable and own is OwnStore.NO_QUORUM:
        assert found == StoreRefusal("the store has no quorum", standalone=True)
        return
    assert not found.standalone
    assert WORDS[kind.__name__] in found.reason
    assert "the text" in found.reason
    assert "try again" in found.reason


@pytest.mark.parametrize("own", [OwnStore.QUORUM, OwnStore.UNKNOWN])
def test_a_timeout_is_a_busy_machine(own: OwnStore) -> None:
    """It says nothing about the other nodes."""
    found = explain(attempts(TimeoutError(), *[own] * ATTEMPTS))
    assert not found.standalone
    assert "this machine may be busy; try again" in found.reason


def test_a_timeout_with_a_store_that_has_no_quorum_is_no_quorum() -> None:
    """Without one, requests take as long as they may."""
    assert explain(attempts(TimeoutError(), *[OwnStore.NO_QUORUM] * ATTEMPTS)).standalone


@pytest.mark.parametrize("at", range(ATTEMPTS))
@pytest.mark.parametrize("other", [OwnStore.QUORUM, OwnStore.UNKNOWN])
def test_one_look_that_differs_is_enough(at: int, other: OwnStore) -> None:
    """An election also leaves the store without a quorum for some seconds."""
    own = [OwnStore.NO_QUORUM] * ATTEMPTS
    own[at] = other
    assert not explain(attempts(StoreUnavailable("away"), *own)).standalone
    assert not explain(attempts(StoreUnavailable("away"), OwnStore.NO_QUORUM)).standalone


def reply(manner: ReplyKind, body: bytes = b"") -> ProbeReply:
    return ProbeReply(manner, body)


@pytest.mark.parametrize(
    ("health", "peers", "found"),
    [
        (reply(ReplyKind.ANSWERS, b'{"health":"true"}'), ReplyKind.ANSWERS, OwnStore.QUORUM),
        (reply(ReplyKind.ANSWERS, b'{"health":"false"}'), ReplyKind.ANSWERS, OwnStore.NO_QUORUM),
        (reply(ReplyKind.ANSWERS, b"{"), ReplyKind.ANSWERS, OwnStore.UNKNOWN),
        (reply(ReplyKind.MUTE), ReplyKind.ANSWERS, OwnStore.NO_QUORUM),
        (reply(ReplyKind.SILENT), ReplyKind.ANSWERS, OwnStore.NO_QUORUM),
        (reply(ReplyKind.REFUSES), ReplyKind.ANSWERS, OwnStore.UNKNOWN),
        (reply(ReplyKind.MUTE), ReplyKind.MUTE, OwnStore.UNKNOWN),
        (reply(ReplyKind.SILENT), ReplyKind.SILENT, OwnStore.UNKNOWN),
    ],
)
def test_what_the_own_member_reports(health: ProbeReply, peers: ReplyKind, found: OwnStore) -> None:
    """A member that waits for its first quorum replies only to peers."""
    assert own_store(health, reply(peers)) is found


async def test_the_own_member_is_asked_as_clients_and_as_peers_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At its own address only."""

    async def probe(address: str, port: int, *_: Any) -> ProbeReply:
        assert address == own.ha_address
        answers = port == own.ports.etcd_peer
        return reply(ReplyKind.ANSWERS if answers else ReplyKind.MUTE)

    own = identity()
    monkeypatch.setattr(store_refusal, "probe", probe)
    tls: Any = lambda: None  # noqa: E731
    assert await ask_own_store(own, tls) is OwnStore.NO_QUORUM


async def lacking() -> OwnStore:
    return OwnStore.NO_QUORUM


@pytest.mark.parametrize("failures", range(ATTEMPTS))
async def test_a_look_that_succeeds_later_counts(failures: int) -> None:
    """A slow one is repeated."""
    asked = 0

    async def attempt() -> str:
        nonlocal asked
        asked += 1
        if asked <= failures:
            await asyncio.sleep(ATTEMPT_SECONDS + 1)
        return "seen"

    assert await observe_repeatedly(attempt, lacking) == "seen"
    assert asked == failures + 1


async def test_after_the_last_look_it_is_refused() -> None:
    async def attempt() -> str:
        raise StoreFull("away")

    found = await observe_repeatedly(attempt, lacking)
    assert isinstance(found, StoreRefusal)
    assert not found.standalone
