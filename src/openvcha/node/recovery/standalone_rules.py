"""Whether this node may be made stand-alone, and what that would lose: pure decisions.

The command applies them before it asks for confirmation, and the node again before it acts.
"""

import datetime as dt
from collections.abc import Iterator

from openvcha.node.etcd.member import peer_url
from openvcha.node.identity import Identity
from openvcha.node.local_records.cluster import KeptCluster
from openvcha.node.process.status import Contact, LocalRole, OwnView
from openvcha.node.recovery.own_data import WITNESS
from openvcha.node.recovery.survey import PlaceReply, Quorum, Survey
from openvcha.store.patroni.state import lsn_text

GIVEN_UP_SECONDS = 15.0
"""After losing contact for this long a node has certainly released the public address."""


def standalone_refusal(found: Survey) -> str | None:
    """Return why the node must not become stand-alone; None if there is no known reason.

    Any reply of another member is a reason, whatever it says; a silent member may still be alive.
    """
    if found.identity.kind == "witness":
        return WITNESS
    if found.quorum:
        return None if has_own_quorum(found) else _served(found, found.quorum)
    if (heir := _replacement(found)) is not None:
        return f"{heir} has taken its place: it was replaced, and is no longer part of the cluster"
    if alive := [said for said in found.said if said.words]:
        return _alive(alive)
    return None


def has_own_quorum(found: Survey) -> bool:
    """Return whether the store that responds is the node's own, with one member."""
    return found.quorum is not None and found.quorum.members == {found.identity.member}


def is_separated(found: Survey) -> bool:
    """Return whether the node's own running etcd knows no member but itself."""
    return found.listed is not None and set(found.listed.values()) == {found.identity.member}


def identity_lines(found: Survey, now: dt.datetime) -> Iterator[str]:
    """Yield what the node knows of its store, of itself, and of silent members."""
    kept = found.kept
    if kept is None:
        yield "nothing is known of the cluster but the peers with which this node was created"
    else:
        yield f"cluster {kept.store_id or 'unknown'}, revision {kept.revision} or later"
        yield f"last in touch with a quorum at {kept.seen} ({_ago(kept.seen, now)})"
        yield _was(kept)
        if not kept.listed:
            yield "the cluster had removed this node by then: the others continued without it"
    if store := found.quorum:
        yield f"the store responds: cluster {store.store_id}, revision {store.revision}"
    for said in found.said:
        if said.words:
            yield f"{_named(said)} responds: {', '.join(said.words)}"
    if silent := [_named(said) for said in found.said if not said.words]:
        yield f"silent: {', '.join(silent)}"
        yield "silent does not mean gone: they may be serving where this node cannot reach them"


def rows_lost(name: str, kept: KeptCluster | None) -> str:
    """Return which acknowledged rows a node may lack if it continues alone with its own data."""
    if kept is None or kept.in_sync is None:
        return f"possibly acknowledged rows: it is not known whether {name} had all of them."
    if not kept.listed:
        return "every row that was acknowledged after this node was removed from the cluster."
    if kept.role is LocalRole.ACTIVE:
        return _lost_by_leader(name, kept)
    if not kept.in_sync:
        return f"the rows that were acknowledged after {name} fell out of sync."
    if kept.paused is False:
        return _none_before(name, kept)
    return (
        "possibly acknowledged rows: in the modes MAINTENANCE and DISABLED the active continues"
        f" without {name} and nothing records that; {name} was at {_place(kept)}."
    )


def must_ask_public(view: OwnView | None, now: dt.datetime) -> bool:
    """Return whether a response at the public address must come from another node.

    ``view`` is None if the node is off. While the node itself may hold the address, a response
    proves nothing.
    """
    if view is None:
        return True
    if view.contact is Contact.STARTING:
        # The service starts only after contact with a majority.
        return not view.writable
    out_of_touch = (now - dt.datetime.fromisoformat(view.since)).total_seconds()
    cut_off = view.contact is Contact.ISOLATED and out_of_touch >= GIVEN_UP_SECONDS
    return cut_off and view.writable is False


def _lost_by_leader(name: str, kept: KeptCluster) -> str:
    if kept.primary:
        return _none_before(name, kept)
    return (
        f"possibly acknowledged rows: {name} led, but its database was not seen to accept writes;"
        " it may have been about to be promoted."
    )


def _none_before(name: str, kept: KeptCluster) -> str:
    return f"no row that was acknowledged before {name} lost contact with the others ({kept.seen})."


def _replacement(found: Survey) -> str | None:
    """Return the other member that is known at this node's own peer URL, if any."""
    own, place = found.identity, peer_url(found.identity)
    lists = [found.listed, *(said.listed for said in found.said)]
    names = {listed.get(place) for listed in lists if listed}
    return next((name for name in names if name and name != own.member), None)


def _served(found: Survey, quorum: Quorum) -> str:
    """Return why a store of several members forbids it, whether or not the node is one of them."""
    own, kept = found.identity.member, found.kept
    if own in quorum.members:
        return "the store has a quorum; replace lost nodes with redeploy"
    known = f"; this node knows it up to {kept.revision}, from {kept.seen}" if kept else ""
    return (
        f"the cluster continues without it at revision {quorum.revision}{known}. It was"
        " removed or replaced, and its data are old: delete it"
    )


def _alive(alive: list[PlaceReply]) -> str:
    who = "; ".join(f"{_named(said)} ({', '.join(said.words)})" for said in alive)
    one = alive[0].place.name
    return (
        f"it is not alone: {who}. Together they may have a quorum: let them connect. If"
        f" {one} must not continue, power it off and try again; no option overrides this"
    )


def _was(kept: KeptCluster) -> str:
    sync = {True: ", in sync", False: ", out of sync", None: ""}[kept.in_sync]
    role = f"it was then {kept.role}{sync}"
    place = _place(kept)
    return f"{role}; its database was at {place}" if place else role


def _place(kept: KeptCluster) -> str:
    if kept.lsn is None:
        return ""
    return f"{lsn_text(kept.lsn)} on timeline {kept.timeline or 'unknown'}"


def _named(said: PlaceReply) -> str:
    place = said.place
    return place.name if place.name == place.address else f"{place.name} ({place.address})"


def _ago(seen: str, now: dt.datetime) -> str:
    seconds = (now - dt.datetime.fromisoformat(seen)).total_seconds()
    if seconds < 0:
        return "in the future, by this machine's clock"
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"


def explained(identity: Identity, kept: KeptCluster | None) -> tuple[str, ...]:
    """Return what may be lost if the node becomes stand-alone."""
    return (
        rows_lost(identity.name, kept),
        "whatever the others acknowledged without this node, if they kept running.",
        "the last changes to the configuration, users and tasks, if only the others had them.",
        "a running task ends as failed; what it left half done stays.",
    )
