"""What may be lost when this node becomes the primary: a pure judgement, in every mode.

Patroni's ``/sync`` proves that a standby has every acknowledged row, but only where the active
may acknowledge nothing without it. Under a pause the active goes on alone, and writes it nowhere.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from openvcha.api.structures import ClusterMode
from openvcha.store.patroni_state import lsn_text


@dataclass(frozen=True)
class Evidence:
    """All that is known; None is unknown.

    ``mode`` is the cluster's, ``paused`` whether Patroni is (a mode may be on its way). ``named``:
    ``/sync`` names this node as one that has everything; ``led_last``: as the last who led.
    ``active_lsn`` is where the lost active was (bytes) when it last told the store; it held its
    right to lead until ``heard``. ``own_lsn`` is what this node has, with a last transaction of
    ``last_row``. ``older``: its data were set aside, and are older than what ``/sync`` says.
    """

    mode: ClusterMode | None
    paused: bool | None
    named: bool | None
    led_last: bool = False
    active_lsn: int | None = None
    own_lsn: int | None = None
    heard: str | None = None
    last_row: str | None = None
    older: bool = False


@dataclass(frozen=True)
class Losses:
    """What may be lost, in lines; ``nothing``: it is proven that no acknowledged row is."""

    nothing: bool
    lines: tuple[str, ...]


def losses(known: Evidence) -> Losses:
    """Judge, and put it in words."""
    proof = _proof(known)
    if proof:
        return Losses(True, (f"Nothing: {proof}.",))
    return Losses(False, (_what(known), *_how_much(known)))


def _proof(known: Evidence) -> str | None:
    """Return why nothing is lost; only where no row was acknowledged without this node."""
    if known.older:
        return None
    if known.led_last:
        return "this node led last, and it has everything that it acknowledged"
    binding = known.mode is ClusterMode.ENABLED and known.paused is False
    if binding and known.named:
        return "this node was in sync when the active was last heard from"
    return None


def _what(known: Evidence) -> str:
    if known.older:
        return (
            "Every row that was acknowledged after this node's data were set aside: the"
            " copy of newer data was not finished."
        )
    if known.mode is None or known.paused is None:
        return "Possibly rows: the mode in which the active acknowledged them is unknown."
    if known.mode is not ClusterMode.ENABLED or known.paused:
        return (
            "Every row that the active acknowledged without this node: in the mode"
            f" {_mode(known)} it continues alone, and nothing in the store shows that."
        )
    if known.named is None:
        return "Possibly rows: the record of whether this node was in sync cannot be read."
    return (
        "Every row that was acknowledged after this node fell out of sync: the store does"
        " not list it as in sync."
    )


def _mode(known: Evidence) -> str:
    if known.mode is ClusterMode.ENABLED:
        return "that was being left for ENABLED"
    return str(known.mode)


def _how_much(known: Evidence) -> Iterator[str]:
    yield _distance(known)
    if known.last_row:
        yield f"The last transaction on this node is from {known.last_row}."
    if known.heard:
        yield (
            f"The active held the leader key until {known.heard}; the key outlives its"
            " holder by up to 20 s."
        )
    else:
        yield "When the active was last heard from is unknown."


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


def shown_time(text: str | None) -> str | None:
    """Return a time that another program wrote, in UTC; None when it is no time."""
    try:
        found = dt.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    moment = found if found.tzinfo else found.replace(tzinfo=dt.UTC)
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")
