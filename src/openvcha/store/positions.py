"""Positions in PostgreSQL's log, as Patroni tells them and as people read them."""

from collections.abc import Mapping
from typing import Any

import msgspec

_STATUS = msgspec.json.Decoder(dict[str, Any])


def position(xlog: Mapping[str, Any]) -> int | None:
    """Return how far the log is written, or was received or replayed (bytes); None: unknown."""
    told = (xlog.get(name) for name in ("location", "received_location", "replayed_location"))
    return max((place for place in told if isinstance(place, int)), default=None)


def leader_position(status: bytes | None) -> int | None:
    """Return from Patroni's ``/status`` how far the leader's log was (bytes); None: unknown."""
    try:
        place = _STATUS.decode(status or b"").get("optime")
    except msgspec.MsgspecError:
        return None
    return place if isinstance(place, int) and place > 0 else None


def lsn_text(lsn: int) -> str:
    """Write a position as PostgreSQL does."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
