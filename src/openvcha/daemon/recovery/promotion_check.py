"""Judging whether this passive may be made the primary by hand, and what is known of the loss."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from openvcha.api.structures import ClusterMode
from openvcha.cluster import patroni_client
from openvcha.cluster.config import NodeKind
from openvcha.cluster.health import writable
from openvcha.cluster.observation import NodeObservation, Observation
from openvcha.daemon.recovery.losses import Evidence, shown_time
from openvcha.node.local_records.cluster import KeptCluster
from openvcha.operations.context import Services
from openvcha.store import keys
from openvcha.store.bounded_json import json_object
from openvcha.store.errors import RecordUnreadable
from openvcha.store.interface import Store
from openvcha.store.patroni_state import leader_position, pause


@dataclass(frozen=True)
class Refusal:
    """Why this node is not made the primary; ``overridable`` by who knows better."""

    reason: str
    overridable: bool = False


@dataclass(frozen=True)
class Stranger:
    """A data node that is none of the cluster's. ``writes``: whether it takes writes, if known."""

    name: str
    writes: bool | None


async def strangers(services: Services, seen: Observation) -> tuple[Stranger, ...]:
    """Ask those whom Patroni names and the cluster's configuration does not. Raises StoreError.

    Who was removed has no vote, and may take writes all the same.
    """
    found = await services.store.prefix(keys.PATRONI_MEMBERS)
    told = {kv.key.removeprefix(keys.PATRONI_MEMBERS): kv.value for kv in found}
    if seen.stranger:
        told.setdefault(seen.stranger, b"")
    names = sorted(name for name in told if seen.node(name) is None)
    asked = [_takes_writes(services, told[name]) for name in names]
    return tuple(map(Stranger, names, await asyncio.gather(*asked)))


async def _takes_writes(services: Services, told: bytes) -> bool | None:
    """Ask its Patroni; None where it does not say."""
    try:
        host = urlsplit(str((json_object(told) or {}).get("api_url"))).hostname
        return (await services.patroni.node(host)).primary if host else None
    except (patroni_client.PatroniUnreachable, ValueError):
        return None


def why_not(seen: Observation, member: str, others: Collection[Stranger] = ()) -> Refusal | None:
    """Judge whether a member may be made the primary: not while another one may live.

    ``others`` are the data nodes that are none of the cluster's.
    """
    refusal = _why_not(seen, member)
    if refusal and not refusal.overridable:
        return refusal
    return _stranger_lives(seen, others) or refusal


def _stranger_lives(seen: Observation, others: Collection[Stranger]) -> Refusal | None:
    writing = next((one for one in others if one.writes), None)
    leading = next((one for one in others if one.name == seen.leader), None)
    if writing:
        return Refusal(
            f"{writing.name} accepts writes, but is no longer a node of this cluster",
            overridable=True,
        )
    if leading and leading.writes is None:
        return Refusal(
            f"{leading.name} holds the leader key, is no longer a node of this cluster, and"
            " may still accept writes; it loses the key 20 s after it was last heard from",
            overridable=True,
        )
    return None


def _why_not(seen: Observation, member: str) -> Refusal | None:
    own = seen.node(member)
    if own is None:
        return Refusal(
            "this node is not part of the cluster: it was replaced, or its creation did not finish"
        )
    if seen.leader == member:
        return Refusal("this node is already the active")
    if seen.config.mode is ClusterMode.DISABLED:
        return _disabled(seen)
    data = (node for node in seen.nodes if node.config.kind is NodeKind.DATA)
    other = next((node for node in data if node is not own), None)
    if other is None:
        return None
    return _other_lives(seen, other)


def _disabled(seen: Observation) -> Refusal:
    if seen.active is not None and writable(seen.active):
        return _active_writes(seen.active)
    return Refusal(
        "in the mode DISABLED its database is stopped, and as old as that mode; if the"
        " active is gone for good, shut down the witness too and use `vcha node"
        " make-standalone`"
    )


def _active_writes(active: NodeObservation) -> Refusal:
    name = active.config.name
    return Refusal(f"{name} is the active and accepts writes; use the operation failover")


def _other_lives(seen: Observation, other: NodeObservation) -> Refusal | None:
    name = other.config.name
    if other.config.member == seen.leader and writable(other):
        return _active_writes(other)
    if other.config.member == seen.leader:
        return Refusal(
            f"{name} holds the leader key and may still accept writes; it loses the key 20"
            " s after it was last heard from",
            overridable=True,
        )
    if writable(other):
        return Refusal(f"{name} accepts writes, though it does not lead", overridable=True)
    if seen.config.mode is not ClusterMode.ENABLED and other.patroni is None:
        return Refusal(
            f"{name} does not respond, and in the mode {seen.config.mode} it keeps"
            " accepting writes while it is cut off",
            overridable=True,
        )
    return None


@dataclass(frozen=True)
class PatroniKeys:
    """The values of Patroni's keys ``status`` and ``config``; None: it is not there."""

    status: bytes | None = None
    config: bytes | None = None


async def patroni_keys(store: Store) -> PatroniKeys:
    """Read what the observation does not have; unreadable is unknown. Raises StoreError."""
    return PatroniKeys(
        await _value(store, keys.PATRONI_STATUS), await _value(store, keys.PATRONI_CONFIG)
    )


async def _value(store: Store, key: str) -> bytes | None:
    try:
        found = await store.get(key)
    except RecordUnreadable:
        return None
    return found.value if found else None


def evidence(
    seen: Observation, member: str, found: PatroniKeys, kept: KeptCluster | None, *, older: bool
) -> Evidence:
    """Gather what is known of the rows that a member may lack.

    ``older``: the member's data were set aside.
    """
    unread = keys.PATRONI_SYNC in seen.unreadable
    own = seen.node(member)
    state = own.patroni if own else None
    lsn = state.lsn if state and state.lsn is not None else (kept.lsn if kept else None)
    return Evidence(
        mode=seen.config.mode,
        paused=pause(found.config),
        named=None if unread else member in seen.sync.standbys,
        led_last=seen.sync.leader == member,
        active_lsn=leader_position(found.status),
        own_lsn=lsn,
        heard=kept.last_led if kept else None,
        last_row=shown_time(state.last_row) if state else None,
        older=older,
    )
