"""The cluster's state as events describe it, and the events between two states. Pure."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.api.structures import (
    ClusterMode,
    ClusterState,
    ConfigState,
    EventSeverity,
    LocalizableMessage,
)

VCHA = "com.vmware.vcha."
OWN = "org.openvcha."
INFO, WARNING, ERROR = EventSeverity.INFO, EventSeverity.WARNING, EventSeverity.ERROR

T = TypeVar("T")


class EventDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An event without number and time."""

    type: str
    severity: EventSeverity
    message: LocalizableMessage
    node: str | None = None
    task: str | None = None


class NodeSnapshot(msgspec.Struct, frozen=True):
    """A node with its name for people; ``up``: it is a voter, and responds."""

    name: str
    up: bool


class PrimaryTerm(msgspec.Struct, frozen=True, kw_only=True):
    """An uninterrupted period in which a node's PostgreSQL was the primary.

    Each promotion starts a new timeline, and each demotion stops the server: so even a very short
    interruption is visible afterwards.
    """

    member: str
    timeline: int
    started: str


class ClusterSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The observed state; nodes are keyed by their member names.

    ``health`` is unset without a cluster; ``active``, ``address`` (the holder of the public
    address) and ``reign`` are unset until first observed. ``threats`` are keyed by finding.
    ``dropped_slots`` are the last that were dropped on each node, as far as that is known.
    """

    config_state: ConfigState
    mode: ClusterMode
    health: ClusterState | None = None
    nodes: Mapping[str, NodeSnapshot] = {}
    active: str | None = None
    address: str | None = None
    reign: PrimaryTerm | None = None
    in_sync: bool = False
    threats: Mapping[str, LocalizableMessage] = {}
    dropped_slots: Mapping[str, tuple[str, ...]] = {}

    def name(self, member: str | None) -> str | None:
        """Return the name of a node; for a removed node, its member name."""
        node = self.nodes.get(member or "")
        return node.name if node else member


def confirmed(
    reported: ClusterSnapshot | None, before: ClusterSnapshot, now: ClusterSnapshot
) -> ClusterSnapshot:
    """Return the state that two successive observations agree on, else the reported one.

    One late response does not mean that a node is lost. While no node is active, the last active is
    kept; a warning stays the same while its numbers change. If nothing was reported yet, ``now`` is
    returned.
    """
    if reported is None:
        return now
    return ClusterSnapshot(
        config_state=_confirmed(reported.config_state, before.config_state, now.config_state),
        mode=_confirmed(reported.mode, before.mode, now.mode),
        health=_confirmed(reported.health, before.health, now.health),
        active=_confirmed(reported.active, before.active, now.active) or reported.active,
        address=_confirmed(reported.address, before.address, now.address) or reported.address,
        reign=_confirmed(reported.reign, before.reign, now.reign) or reported.reign,
        in_sync=_confirmed(reported.in_sync, before.in_sync, now.in_sync),
        nodes=_confirmed_entries(reported.nodes, before.nodes, now.nodes),
        threats=_confirmed_keys(reported.threats, before.threats, now.threats),
        dropped_slots=_last_known(reported, before, now),
    )


def _confirmed(reported: T, before: T, now: T) -> T:
    return now if now == before else reported


def _confirmed_entries(
    reported: Mapping[str, T], before: Mapping[str, T], now: Mapping[str, T]
) -> Mapping[str, T]:
    """Confirm each entry by itself: a flapping one must not hide the others."""
    names = sorted({*reported, *before, *now})
    found = {
        name: _confirmed(reported.get(name), before.get(name), now.get(name)) for name in names
    }
    return {name: value for name, value in found.items() if value is not None}


def _confirmed_keys(
    reported: Mapping[str, T], before: Mapping[str, T], now: Mapping[str, T]
) -> Mapping[str, T]:
    """Confirm the existence of entries; their values may differ."""
    values = {**now, **before, **reported}
    kept = _confirmed_entries(
        *(dict.fromkeys(entries, True) for entries in (reported, before, now))
    )
    return {name: values[name] for name in kept}


def _last_known(
    reported: ClusterSnapshot, before: ClusterSnapshot, now: ClusterSnapshot
) -> Mapping[str, tuple[str, ...]]:
    """Return the dropped slots of the nodes that exist; a node that is silent keeps its own."""
    fresh = {
        member: slots
        for member, slots in now.dropped_slots.items()
        if before.dropped_slots.get(member) == slots
    }
    kept = {**reported.dropped_slots, **fresh}
    return {member: slots for member, slots in kept.items() if member in now.nodes}


def diff(old: ClusterSnapshot | None, new: ClusterSnapshot) -> tuple[EventDraft, ...]:
    """Return the events between two states; the very first state yields none."""
    if old is None:
        return ()
    return (
        *_config(old, new),
        *_active(old, new),
        *_reign(old, new),
        *_nodes(old, new),
        *_replication(old, new),
        *_health(old, new),
        *_threats(old, new),
        *_slots(old, new),
    )


def _config(old: ClusterSnapshot, new: ClusterSnapshot) -> Iterator[EventDraft]:
    if new.config_state is not old.config_state:
        severity = ERROR if new.config_state is ConfigState.INVALID else INFO
        text = message("event.config", new.config_state.value, old.config_state.value)
        yield EventDraft(type=f"{OWN}cluster.config.changed", severity=severity, message=text)
        if old.config_state is ConfigState.CONFIGURED:
            text = message("event.destroyed")
            yield EventDraft(type=f"{VCHA}cluster.state.destroyed", severity=WARNING, message=text)
    if new.mode is not old.mode:
        text = message("event.mode", new.mode.value, old.mode.value)
        yield EventDraft(type=f"{VCHA}cluster.mode.changed", severity=INFO, message=text)


def _active(old: ClusterSnapshot, new: ClusterSnapshot) -> Iterator[EventDraft]:
    name = new.name(new.active)
    if new.active is not None and old.active not in {None, new.active}:
        before = new.name(old.active) if old.active in new.nodes else old.name(old.active)
        text = message("event.failover", name, before)
        yield EventDraft(
            type=f"{VCHA}failover.succeeded", severity=WARNING, message=text, node=name
        )
    if new.address is not None and new.address != old.address:
        name = new.name(new.address)
        text = message("event.address", name)
        yield EventDraft(type=f"{OWN}address.taken", severity=INFO, message=text, node=name)


def _reign(old: ClusterSnapshot, new: ClusterSnapshot) -> Iterator[EventDraft]:
    """Report that the primary was interrupted; a failover is an event of its own."""
    was, is_ = old.reign, new.reign
    if was is None or is_ is None or was == is_ or was.member != is_.member:
        return
    name = new.name(is_.member)
    promoted = is_.timeline != was.timeline
    text = message("event.primary.again" if promoted else "event.primary.restarted", name)
    yield EventDraft(type=f"{OWN}primary.interrupted", severity=WARNING, message=text, node=name)


def _nodes(old: ClusterSnapshot, new: ClusterSnapshot) -> Iterator[EventDraft]:
    for member in sorted({*old.nodes, *new.nodes}):
        before, now = old.nodes.get(member), new.nodes.get(member)
        name = new.name(member) if now else old.name(member)
        was, is_ = bool(before and before.up), bool(now and now.up)
        if is_ and not was:
            text = message("event.node.joined", name)
            yield EventDraft(type=f"{VCHA}node.joined", severity=INFO, message=text, node=name)
        elif was and not is_:
            text = message("event.node.left", name)
            yield EventDraft(type=f"{VCHA}node.left", severity=WARNING, message=text, node=name)


def _replication(old: ClusterSnapshot, new: ClusterSnapshot) -> Iterator[EventDraft]:
    if new.in_sync == old.in_sync:
        return
    text = message("event.in.sync" if new.in_sync else "event.out.of.sync")
    severity = INFO if new.in_sync else WARNING
    yield EventDraft(type=f"{VCHA}DB.replication.state.changed", severity=severity, message=text)


_HEALTH = {
    ClusterState.HEALTHY: INFO,
    ClusterState.DEGRADED: WARNING,
    ClusterState.ISOLATED: ERROR,
}


def _health(old: ClusterSnapshot, new: ClusterSnapshot) -> Iterator[EventDraft]:
    if new.health is None or new.health is old.health:
        return
    text = message("event.health", new.health.value)
    kind = f"{VCHA}cluster.state.{new.health.value.lower()}"
    yield EventDraft(type=kind, severity=_HEALTH[new.health], message=text)


def _threats(old: ClusterSnapshot, new: ClusterSnapshot) -> Iterator[EventDraft]:
    for key in sorted({*old.threats, *new.threats}):
        if key not in old.threats:
            yield EventDraft(
                type=f"{OWN}warning.raised", severity=WARNING, message=new.threats[key]
            )
        elif key not in new.threats:
            text = message("event.warning.over", old.threats[key].default_message)
            yield EventDraft(type=f"{OWN}warning.cleared", severity=INFO, message=text)


def _slots(old: ClusterSnapshot, new: ClusterSnapshot) -> Iterator[EventDraft]:
    """Report slots that were dropped; those of a node's first report were reported before."""
    for member, slots in sorted(new.dropped_slots.items()):
        name, known = new.name(member), old.dropped_slots.get(member, slots)
        for slot in slots:
            if slot not in known:
                text = message("event.slot.dropped", slot, name)
                yield EventDraft(type=f"{OWN}slot.dropped", severity=INFO, message=text, node=name)


prepare(__name__)
