"""The cluster's state as events speak of it, and what has happened between two of them. Pure."""

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


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An event that has neither a number nor a time yet."""

    type: str
    severity: EventSeverity
    message: LocalizableMessage
    node: str | None = None
    task: str | None = None


class SeenNode(msgspec.Struct, frozen=True):
    """A node by what people call it; ``up``: it has a vote, and answers."""

    name: str
    up: bool


class Reign(msgspec.Struct, frozen=True, kw_only=True):
    """One time without a break in which a node's PostgreSQL was the primary.

    Each promotion begins a new timeline, and each demotion ends the server: so a break is seen
    afterwards, however short it was.
    """

    member: str
    timeline: int
    started: str


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen; nodes are named by their member names.

    ``health`` is unset without a cluster, ``active``, ``address`` (who has the public address) and
    ``reign`` as long as nobody was ever seen to be it. ``threats`` are by the finding's key.
    """

    config_state: ConfigState
    mode: ClusterMode
    health: ClusterState | None = None
    nodes: Mapping[str, SeenNode] = {}
    active: str | None = None
    address: str | None = None
    reign: Reign | None = None
    in_sync: bool = False
    threats: Mapping[str, LocalizableMessage] = {}

    def name(self, member: str | None) -> str | None:
        """Return the name of a node; of one that is gone its member name is all there is."""
        node = self.nodes.get(member or "")
        return node.name if node else member


def remember(told: Seen | None, before: Seen, now: Seen) -> Seen:
    """Return what is true by two looks in a row; where they differ, what was told stays.

    One late answer is not the loss of a node. Who was active is kept while nobody is, and a threat
    is the same while its numbers change. Without ``told`` the last look is all there is.
    """
    if told is None:
        return now
    return Seen(
        config_state=_twice(told.config_state, before.config_state, now.config_state),
        mode=_twice(told.mode, before.mode, now.mode),
        health=_twice(told.health, before.health, now.health),
        active=_twice(told.active, before.active, now.active) or told.active,
        address=_twice(told.address, before.address, now.address) or told.address,
        reign=_twice(told.reign, before.reign, now.reign) or told.reign,
        in_sync=_twice(told.in_sync, before.in_sync, now.in_sync),
        nodes=_each(told.nodes, before.nodes, now.nodes),
        threats=_each_key(told.threats, before.threats, now.threats),
    )


def _twice(told: T, before: T, now: T) -> T:
    return now if now == before else told


def _each(told: Mapping[str, T], before: Mapping[str, T], now: Mapping[str, T]) -> Mapping[str, T]:
    """Decide on each entry by itself: one that changes all the time must not hide the others."""
    names = sorted({*told, *before, *now})
    found = {name: _twice(told.get(name), before.get(name), now.get(name)) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _each_key(
    told: Mapping[str, T], before: Mapping[str, T], now: Mapping[str, T]
) -> Mapping[str, T]:
    """As ``_each`` where it counts what there is, not how it looks at the moment."""
    values = {**now, **before, **told}
    kept = _each(*(dict.fromkeys(entries, True) for entries in (told, before, now)))
    return {name: values[name] for name in kept}


def diff(old: Seen | None, new: Seen) -> tuple[Draft, ...]:
    """Return what has happened from ``old`` to ``new``; nothing is told of the very first look."""
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
    )


def _config(old: Seen, new: Seen) -> Iterator[Draft]:
    if new.config_state is not old.config_state:
        severity = ERROR if new.config_state is ConfigState.INVALID else INFO
        text = message("event.config", new.config_state.value, old.config_state.value)
        yield Draft(type=f"{OWN}cluster.config.changed", severity=severity, message=text)
        if old.config_state is ConfigState.CONFIGURED:
            text = message("event.destroyed")
            yield Draft(type=f"{VCHA}cluster.state.destroyed", severity=WARNING, message=text)
    if new.mode is not old.mode:
        text = message("event.mode", new.mode.value, old.mode.value)
        yield Draft(type=f"{VCHA}cluster.mode.changed", severity=INFO, message=text)


def _active(old: Seen, new: Seen) -> Iterator[Draft]:
    name = new.name(new.active)
    if new.active is not None and old.active not in {None, new.active}:
        before = new.name(old.active) if old.active in new.nodes else old.name(old.active)
        text = message("event.failover", name, before)
        yield Draft(type=f"{VCHA}failover.succeeded", severity=WARNING, message=text, node=name)
    if new.address is not None and new.address != old.address:
        name = new.name(new.address)
        text = message("event.address", name)
        yield Draft(type=f"{OWN}address.taken", severity=INFO, message=text, node=name)


def _reign(old: Seen, new: Seen) -> Iterator[Draft]:
    """Report that the primary was interrupted; another's takeover is an event of its own."""
    was, is_ = old.reign, new.reign
    if was is None or is_ is None or was == is_ or was.member != is_.member:
        return
    name = new.name(is_.member)
    promoted = is_.timeline != was.timeline
    text = message("event.primary.again" if promoted else "event.primary.restarted", name)
    yield Draft(type=f"{OWN}primary.interrupted", severity=WARNING, message=text, node=name)


def _nodes(old: Seen, new: Seen) -> Iterator[Draft]:
    for member in sorted({*old.nodes, *new.nodes}):
        before, now = old.nodes.get(member), new.nodes.get(member)
        name = new.name(member) if now else old.name(member)
        was, is_ = bool(before and before.up), bool(now and now.up)
        if is_ and not was:
            text = message("event.node.joined", name)
            yield Draft(type=f"{VCHA}node.joined", severity=INFO, message=text, node=name)
        elif was and not is_:
            text = message("event.node.left", name)
            yield Draft(type=f"{VCHA}node.left", severity=WARNING, message=text, node=name)


def _replication(old: Seen, new: Seen) -> Iterator[Draft]:
    if new.in_sync == old.in_sync:
        return
    text = message("event.in.sync" if new.in_sync else "event.out.of.sync")
    severity = INFO if new.in_sync else WARNING
    yield Draft(type=f"{VCHA}DB.replication.state.changed", severity=severity, message=text)


_HEALTH = {
    ClusterState.HEALTHY: INFO,
    ClusterState.DEGRADED: WARNING,
    ClusterState.ISOLATED: ERROR,
}


def _health(old: Seen, new: Seen) -> Iterator[Draft]:
    if new.health is None or new.health is old.health:
        return
    text = message("event.health", new.health.value)
    kind = f"{VCHA}cluster.state.{new.health.value.lower()}"
    yield Draft(type=kind, severity=_HEALTH[new.health], message=text)


def _threats(old: Seen, new: Seen) -> Iterator[Draft]:
    for key in sorted({*old.threats, *new.threats}):
        if key not in old.threats:
            yield Draft(type=f"{OWN}warning.raised", severity=WARNING, message=new.threats[key])
        elif key not in new.threats:
            text = message("event.warning.over", old.threats[key].default_message)
            yield Draft(type=f"{OWN}warning.cleared", severity=INFO, message=text)


prepare(__name__)
