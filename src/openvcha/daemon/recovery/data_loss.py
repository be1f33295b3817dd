"""The data that may be lost if this node becomes the primary: a pure decision, for every mode.

Patroni's ``/sync`` proves that a standby has every acknowledged row, but only while the active
must not acknowledge anything without it. During a pause the active may continue alone, and records
that nowhere. Patroni names a node there as the leader before it promotes its PostgreSQL: that alone
proves nothing.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from openvcha.api.structures import ClusterMode
from openvcha.store.patroni.state import lsn_text


@dataclass(frozen=True)
class Evidence:
    """What is known; None means unknown.

    ``mode`` is the cluster's; ``paused``: whether Patroni is (the mode may be changing).
    ``in_sync``: ``/sync`` names this node as in sync; ``named_leader``: as the leader.
    ``promoted_last``: its data are on the newest timeline in ``/history``, which its own promotion
    began.
    ``active_lsn`` is the position (bytes) that the lost active last reported to the store; it held
    the leader key until ``lease_held_until``. ``own_lsn`` is this node's position, and ``last_row``
    the time of its last transaction. ``from_old_data``: its data are the ones that
    were set aside, older than ``/sync`` says. ``leader_ttl``: for how many seconds the key outlives
    its holder.
    """

    mode: ClusterMode | None
    paused: bool | None
    in_sync: bool | None
    named_leader: bool = False
    promoted_last: bool = False
    active_lsn: int | None = None
    own_lsn: int | None = None
    lease_held_until: str | None = None
    last_row: str | None = None
    from_old_data: bool = False
    leader_ttl: int | None = None


@dataclass(frozen=True)
class DataLoss:
    """What may be lost, as lines of text; ``proven_none``: provably no acknowledged row."""

    proven_none: bool
    lines: tuple[str, ...]


def assess_data_loss(known: Evidence) -> DataLoss:
    """Return what may be lost, and why."""
    proof = _proof(known)
    if proof:
        return DataLoss(True, (f"Nothing: {proof}.",))
    return DataLoss(False, (_what(known), *_how_much(known)))


def _proof(known: Evidence) -> str | None:
    """Return the proof that no acknowledged row is lost, if there is one."""
    if known.from_old_data:
        return None
    if _was_last_primary(known):
        return "this node led last, and it has everything that it acknowledged"
    binding = known.mode is ClusterMode.ENABLED and known.paused is False
    if binding and known.in_sync:
        return "this node was in sync when the active last responded"
    return None


def _was_last_primary(known: Evidence) -> bool:
    """Return whether no other node can have acknowledged anything since this node did."""
    if known.active_lsn is None or known.own_lsn is None or known.own_lsn < known.active_lsn:
        return False
    return known.named_leader and known.promoted_last


def _what(known: Evidence) -> str:
    if known.from_old_data:
        return (
            "Every row that was acknowledged after this node's data were set aside: the"
            " copy of newer data was not finished."
        )
    if known.named_leader:
        return (
            "Possibly acknowledged rows: the store names this node as the last leader, but nothing"
            " proves that its database was the primary."
        )
    if known.mode is None or known.paused is None:
        return "Possibly acknowledged rows: the mode at that time is unknown."
    if known.mode is not ClusterMode.ENABLED or known.paused:
        return (
            "Rows that the active acknowledged without this node. In the mode"
            f" {_mode(known)} the active may continue alone, and the store has no record of it."
        )
    if known.in_sync is None:
        return "Possibly acknowledged rows: this node's sync state cannot be read."
    return (
        "Every row that was acknowledged after this node fell out of sync: the store does"
        " not list it as in sync."
    )


def _mode(known: Evidence) -> str:
    if known.mode is ClusterMode.ENABLED:
        return f"{known.mode}, which was being changed,"
    return str(known.mode)


def _how_much(known: Evidence) -> Iterator[str]:
    yield _distance(known)
    if known.last_row:
        yield f"The last transaction on this node is from {known.last_row}."
    if known.lease_held_until:
        ttl = f"{known.leader_ttl} s" if known.leader_ttl else "its ttl"
        yield (
            f"The active held the leader key until {known.lease_held_until}; the key outlives its"
            f" holder by up to {ttl}."
        )
    else:
        yield "It is not known when the active last responded."


def _distance(known: Evidence) -> str:
    if known.active_lsn is None:
        return "The active's position is unknown."
    if known.own_lsn is None:
        return f"The active was at {lsn_text(known.active_lsn)}; this node's position is unknown."
    there, here = lsn_text(known.active_lsn), lsn_text(known.own_lsn)
    behind = known.active_lsn - known.own_lsn
    if behind > 0:
        return (
            f"The active had written up to {there} when it last reported to the store, and"
            f" this node has up to {here}: at least {behind} bytes of write-ahead log are"
            " missing."
        )
    return (
        f"This node ({here}) has everything that the active had written ({there}) when it"
        " last reported to the store; what the active wrote later is unknown."
    )


def format_utc(text: str | None) -> str | None:
    """Return a time that another program wrote, in UTC; None if it cannot be parsed."""
    try:
        found = dt.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    moment = found if found.tzinfo else found.replace(tzinfo=dt.UTC)
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")
