"""Whether an operator may promote this passive node, and what is known of the possible loss."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from openvcha.api.structures import ClusterMode
from openvcha.cluster import patroni_client
from openvcha.cluster.config import NodeKind
from openvcha.cluster.findings.health import writable
from openvcha.cluster.observing.observation import NodeObservation, Observation
from openvcha.daemon.recovery.data_loss import DataLoss, Evidence, assess_data_loss, format_utc
from openvcha.node.local_records.cluster import KeptCluster
from openvcha.operations.context import Services
from openvcha.operations.steps.new_node import created_members
from openvcha.store import keys
from openvcha.store.errors import RecordUnreadable
from openvcha.store.interface import Store
from openvcha.store.patroni.state import (
    Unreadable,
    leader_position,
    leader_ttl,
    paused,
    read_config,
    read_history,
    read_member,
)


@dataclass(frozen=True)
class PromotionRefusal:
    """Why this node must not be promoted; ``overridable``: an operator may proceed anyway."""

    reason: str
    overridable: bool = False


@dataclass(frozen=True)
class NonMember:
    """A data node outside the cluster. ``writes``: whether it accepts writes; None if unknown."""

    name: str
    writes: bool | None


@dataclass(frozen=True)
class Creation:
    """The creation of a node that the configuration does not name yet.

    ``task`` is the task that creates it; None if none does any more, and its vote is left.
    """

    task: str | None


async def creation_of(services: Services, member: str) -> Creation | None:
    """Return the unfinished creation of a member; None if there is none. Raises StoreError."""
    running = await services.journal.running()
    if running is not None and member in created_members(running.state):
        return Creation(f"{running.operation_id} ({running.id})")
    left = any(one.name == member for one in await services.store.members())
    return Creation(None) if left else None


async def non_members(services: Services, seen: Observation) -> tuple[NonMember, ...]:
    """Return the members that Patroni knows but the configuration does not. Raises StoreError.

    A node that was removed has no vote, but may still accept writes.
    """
    found = await services.store.prefix(keys.PATRONI_MEMBERS)
    member_records = {kv.key.removeprefix(keys.PATRONI_MEMBERS): kv.value for kv in found}
    if seen.unknown_leader:
        member_records.setdefault(seen.unknown_leader, b"")
    names = sorted(name for name in member_records if seen.node(name) is None)
    asked = [_accepts_writes(services, member_records[name]) for name in names]
    return tuple(map(NonMember, names, await asyncio.gather(*asked)))


async def _accepts_writes(services: Services, member_record: bytes) -> bool | None:
    """Return whether a member accepts writes; None if its Patroni does not say."""
    try:
        state = read_member(member_record)
        host = None if isinstance(state, Unreadable) else urlsplit(state.api_url).hostname
        return (await services.patroni.node(host)).primary if host else None
    except (patroni_client.PatroniUnreachable, ValueError):
        return None


def check_promotion(
    seen: Observation,
    member: str,
    others: Collection[NonMember] = (),
    creation: Creation | None = None,
) -> PromotionRefusal | None:
    """Return why a member must not be promoted: above all, another primary may be running.

    ``others`` are the data nodes outside the cluster. ``creation`` is the member's own, if the
    configuration does not name it.
    """
    refusal = _check_cluster(seen, member, creation)
    if refusal and not refusal.overridable:
        return refusal
    return _non_member_lives(seen, others) or refusal


@dataclass(frozen=True)
class Assessment:
    """What an operator sees before a member is promoted.

    ``refused``: why it is impossible, whatever the operator confirms. ``risk``: why another primary
    may be running, whose acknowledged rows would be lost.
    """

    refused: str | None
    risk: str | None
    lost: DataLoss

    @property
    def requires_name(self) -> bool:
        """Return whether the operator must type the node's name to confirm."""
        return self.risk is not None or not self.lost.proven_none


def assess_promotion(refusal: PromotionRefusal | None, known: Evidence) -> Assessment:
    """Return the assessment of a promotion: its refusal, its risk, and what may be lost."""
    reason = refusal.reason if refusal else None
    overridable = refusal is not None and refusal.overridable
    return Assessment(
        refused=None if overridable else reason,
        risk=reason if overridable else None,
        lost=assess_data_loss(known),
    )


def _non_member_lives(seen: Observation, others: Collection[NonMember]) -> PromotionRefusal | None:
    writing = next((one for one in others if one.writes), None)
    leading = next((one for one in others if one.name == seen.leader), None)
    if writing:
        return PromotionRefusal(
            f"{writing.name} accepts writes, but is no longer a node of this cluster",
            overridable=True,
        )
    if leading and leading.writes is None:
        return PromotionRefusal(
            f"{leading.name} holds the leader key, is no longer a node of this cluster, and"
            f" may still accept writes; {_loses_key(seen)}",
            overridable=True,
        )
    return None


def _check_cluster(
    seen: Observation, member: str, creation: Creation | None
) -> PromotionRefusal | None:
    own = seen.node(member)
    if seen.leader == member:
        return PromotionRefusal("this node is already the active")
    if own is None:
        return _not_configured(seen, creation)
    if seen.config.mode is ClusterMode.DISABLED:
        return _disabled(seen)
    data = (node for node in seen.nodes if node.config.kind is NodeKind.DATA)
    other = next((node for node in data if node is not own), None)
    if other is None:
        return None
    return _other_lives(seen, other)


def _not_configured(seen: Observation, creation: Creation | None) -> PromotionRefusal:
    """Return why a node outside the configuration is not promoted, and what to do instead.

    If it led, the task that creates it could not check its own steps, or might be rolling back.
    """
    if creation is None:
        return PromotionRefusal(
            "this node is not part of the cluster: it was replaced, or its creation was rolled back"
        )
    if creation.task:
        what, then = f"the task {creation.task} is creating this node", "; the task then continues"
    else:
        what, then = "the creation of this node did not finish", ""
    if seen.active is not None and writable(seen.active):
        return PromotionRefusal(f"{what}, and {seen.active.config.name} accepts writes")
    return PromotionRefusal(
        f"{what}, and the configuration does not name it yet. Bring the active back{then}. Only if"
        " the active is gone for good: power off every other node, the witness too, and use"
        " `vcha node make-standalone` on this node"
    )


def _loses_key(seen: Observation) -> str:
    if seen.leader_ttl is None:
        return "it loses the key once its ttl has passed since it was last heard from"
    return f"it loses the key {seen.leader_ttl} s after it was last heard from"


def _disabled(seen: Observation) -> PromotionRefusal:
    if seen.active is not None and writable(seen.active):
        return _active_writes(seen.active)
    return PromotionRefusal(
        "in the mode DISABLED its database is stopped and has received no changes since that mode"
        " was set; if it must continue without the active, power off every other node, the active"
        " and the witness too, and use `vcha node make-standalone`"
    )


def _active_writes(active: NodeObservation) -> PromotionRefusal:
    name = active.config.name
    return PromotionRefusal(f"{name} is the active and accepts writes; use the operation failover")


def _other_lives(seen: Observation, other: NodeObservation) -> PromotionRefusal | None:
    name = other.config.name
    if other.config.member == seen.leader and writable(other):
        return _active_writes(other)
    if other.config.member == seen.leader:
        return PromotionRefusal(
            f"{name} holds the leader key and may still accept writes; {_loses_key(seen)}",
            overridable=True,
        )
    if writable(other):
        return PromotionRefusal(f"{name} accepts writes, though it does not lead", overridable=True)
    if seen.config.mode is not ClusterMode.ENABLED and other.patroni is None:
        return PromotionRefusal(
            f"{name} does not respond, and in the mode {seen.config.mode} it keeps"
            " accepting writes while it is cut off",
            overridable=True,
        )
    return None


@dataclass(frozen=True)
class PatroniKeys:
    """The values of Patroni's keys ``status``, ``config`` and ``history``; None if absent."""

    status: bytes | None = None
    config: bytes | None = None
    history: bytes | None = None


@dataclass(frozen=True)
class PromotionFacts:
    """What the store and the other nodes show before a member is promoted.

    ``others`` are the data nodes outside the cluster; ``creation`` is the member's own.
    """

    seen: Observation
    patroni: PatroniKeys
    others: tuple[NonMember, ...]
    creation: Creation | None


async def gather_facts(services: Services) -> PromotionFacts:
    """Observe the cluster and read what the observation lacks. Raises StoreError."""
    found = await patroni_keys(services.store)
    seen, member = await services.observe(), services.identity.member
    creation = await creation_of(services, member) if seen.node(member) is None else None
    return PromotionFacts(seen, found, await non_members(services, seen), creation)


async def patroni_keys(store: Store) -> PatroniKeys:
    """Read the keys that the observation lacks; None if unreadable. Raises StoreError."""
    return PatroniKeys(
        await _value(store, keys.PATRONI_STATUS),
        await _value(store, keys.PATRONI_CONFIG),
        await _value(store, keys.PATRONI_HISTORY),
    )


async def _value(store: Store, key: str) -> bytes | None:
    try:
        found = await store.get(key)
    except RecordUnreadable:
        return None
    return found.value if found else None


def gather_evidence(
    seen: Observation,
    member: str,
    found: PatroniKeys,
    kept: KeptCluster | None,
    *,
    from_old_data: bool,
) -> Evidence:
    """Return what is known of the rows that a member may lack.

    ``from_old_data``: the member's old data, which were set aside, were restored.
    """
    unread = keys.PATRONI_SYNC in seen.unreadable
    own = seen.node(member)
    state = own.patroni if own else None
    lsn = state.lsn if state and state.lsn is not None else (kept.lsn if kept else None)
    told = state.timeline if state else None
    timeline = told if told is not None else (kept.timeline if kept else None)
    return Evidence(
        mode=seen.config.mode,
        paused=paused(found.config),
        in_sync=None if unread else member in seen.sync.standbys,
        named_leader=not unread and seen.sync.leader == member,
        promoted_last=_promoted_last(member, found.history, timeline),
        active_lsn=leader_position(found.status),
        own_lsn=lsn,
        lease_held_until=kept.last_led if kept else None,
        last_row=format_utc(state.last_row) if state else None,
        from_old_data=from_old_data,
        leader_ttl=leader_ttl(read_config(found.config)),
    )


def _promoted_last(member: str, history: bytes | None, timeline: int | None) -> bool:
    """Return whether this member's promotion began the newest timeline, which its data are on."""
    lines = read_history(history or b"[]")
    if isinstance(lines, Unreadable) or not lines:
        return False
    return lines[-1].successor == member and lines[-1].timeline + 1 == timeline
