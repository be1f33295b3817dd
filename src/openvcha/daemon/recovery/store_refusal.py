"""Why a person's command on a node cannot see the cluster, and what that person should do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeVar

from openvcha.node.identity import Identity
from openvcha.node.recovery.probe import ProbeReply, ReplyKind, probe
from openvcha.store.errors import (
    AuthenticationFailed,
    ClusterUnhealthy,
    OutcomeUnknown,
    StoreFull,
    StoreUnavailable,
)
from openvcha.store.etcd.member_pages import HEALTH, MEMBERS, MemberHealth, read_health
from openvcha.store.http.client import TlsSource

ATTEMPTS = 3
ATTEMPT_SECONDS = 6.0
PAUSE_SECONDS = 1.0
PROBE_SECONDS = 2.0

T = TypeVar("T")


class OwnStore(Enum):
    """What the node's own member of the store reports."""

    QUORUM = auto()
    NO_QUORUM = auto()
    UNKNOWN = auto()


@dataclass(frozen=True)
class FailedAttempt:
    """A failed attempt to observe the cluster, and what the node's own member reported after it."""

    error: StoreUnavailable | TimeoutError
    own: OwnStore


@dataclass(frozen=True)
class StoreRefusal:
    """Why the cluster cannot be seen; ``standalone``: the node may have to stand alone."""

    reason: str
    standalone: bool = False


_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (StoreFull, "the store is full; free space with `vcha node store defragment` and try again"),
    (AuthenticationFailed, "the store rejects this node's account; try again"),
    (OutcomeUnknown, "the store did not acknowledge a write; try again"),
    (ClusterUnhealthy, "the store's members have just lost contact with each other; try again"),
    (
        TimeoutError,
        f"the store did not respond within {ATTEMPT_SECONDS:g} s; this machine may be busy",
    ),
)
_OTHERWISE = "the store is unavailable; see `vcha node status` and try again"
_ABOUT_QUORUM: Final = (StoreUnavailable, TimeoutError)


def explain(attempts: Sequence[FailedAttempt]) -> StoreRefusal:
    """Return the refusal after failed attempts, at least one.

    Only a store that repeatedly reports that it has no quorum is a reason to stand alone: a busy
    machine, a rejected account or a full store says nothing about the other nodes.
    """
    if len(attempts) >= ATTEMPTS and all(map(_lacks_quorum, attempts)):
        return StoreRefusal("the store has no quorum", standalone=True)
    error = attempts[-1].error
    reason = next((text for kind, text in _REASONS if isinstance(error, kind)), _OTHERWISE)
    if isinstance(error, TimeoutError):
        return StoreRefusal(f"{reason}; try again")
    return StoreRefusal(f"{reason} ({error})")


def own_store(health: ProbeReply, peers: ProbeReply) -> OwnStore:
    """Return what a member reports, from its replies to clients and to peers.

    It replies to peers, but not to clients, while it waits for its first quorum.
    """
    if health.manner is not ReplyKind.ANSWERS:
        waits = peers.manner is ReplyKind.ANSWERS and health.manner is not ReplyKind.REFUSES
        return OwnStore.NO_QUORUM if waits else OwnStore.UNKNOWN
    return {
        MemberHealth.HEALTHY: OwnStore.QUORUM,
        MemberHealth.UNHEALTHY: OwnStore.NO_QUORUM,
        MemberHealth.UNKNOWN: OwnStore.UNKNOWN,
    }[read_health(health.body)]


async def ask_own_store(identity: Identity, tls: TlsSource) -> OwnStore:
    """Ask the node's own member whether it has a quorum."""
    address, ports = identity.ha_address, identity.ports
    health, peers = await asyncio.gather(
        probe(address, ports.etcd_client, HEALTH, tls(), PROBE_SECONDS),
        probe(address, ports.etcd_peer, MEMBERS, tls(), PROBE_SECONDS),
    )
    return own_store(health, peers)


async def observe_repeatedly(
    attempt: Callable[[], Awaitable[T]], own: Callable[[], Awaitable[OwnStore]]
) -> T | StoreRefusal:
    """Return the first observation that succeeds, or the refusal. Raises StoreError."""
    failed: list[FailedAttempt] = []
    for number in range(ATTEMPTS):
        if number:
            await asyncio.sleep(PAUSE_SECONDS)
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                return await attempt()
        except (StoreUnavailable, TimeoutError) as error:
            failed.append(FailedAttempt(error, await own()))
    return explain(failed)


def _lacks_quorum(attempt: FailedAttempt) -> bool:
    return attempt.own is OwnStore.NO_QUORUM and type(attempt.error) in _ABOUT_QUORUM
