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
        return "this node was the last who led, and it has all that it acknowledged"
    binding = known.mode is ClusterMode.ENABLED and known.paused is False
    if binding and known.named:
        return "this node was in sync when the active was last heard"
    return None


def _what(known: Evidence) -> str:
    if known.older:
        return (
            "Every row that was acknowledged after this node's data were set aside: a copy of newer"
            " ones was not finished."
        )
    if known.mode is None or known.paused is None:
        return "Perhaps rows: in which mode the active acknowledged them is not known."
    if known.mode is not ClusterMode.ENABLED or known.paused:
        return (
            f"Every row that the active acknowledged without this node: in the mode"
            f" {_mode(known)} it goes on alone, and nothing in the store shows it."
        )
    if known.named is None:
        return "Perhaps rows: whether this node was in sync cannot be read."
    return (
        "Every row that was acknowledged after this node fell out of sync: the store does not"
        " name it as one that has all of them."
    )


def _mode(known: Evidence) -> str:
    if known.mode is ClusterMode.ENABLED:
        return "that was being left for ENABLED"
    return str(known.mode)


def _how_much(known: Evidence) -> Iterator[str]:
    yield _distance(known)
    if known.last_row:
        yield f"The last transaction that this node has is of {known.last_row}."
    if known.heard:
        yield (
            f"The active held its right to lead until {known.heard}; that right outlives it by up"
            " to 20 s."
        )
    else:
        yield "When the active was last heard is not known."


def _distance(known: Evidence) -> str:
    if known.active_lsn is None:
        return "How far the active was is not known."
    if known.own_lsn is None:
        return f"The active was at {lsn_text(known.active_lsn)}; where this node is is not known."
    there, here = lsn_text(known.active_lsn), lsn_text(known.own_lsn)
    behind = known.active_lsn - known.own_lsn
    if behind > 0:
        return (
            f"The active had written up to {there} when it last told the store, and this node has"
            f" up to {here}: at least {behind} bytes of the log are missing."
        )
    return (
        f"This node has ({here}) all that the active had written ({there}) when it last told the"
        " store; what it wrote later is not known."
    )


def shown_time(text: str | None) -> str | None:
    """Return a time that another program wrote, in UTC; None when it is no time."""
    try:
        found = dt.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    moment = found if found.tzinfo else found.replace(tzinfo=dt.UTC)
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")
