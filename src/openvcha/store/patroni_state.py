"""What Patroni's keys say, read so that what cannot be read is unknown, and raises nothing."""

from typing import Any, Final

from openvcha.store.bounded_json import json_object

LONGEST_NAME: Final = 255
WISHED: Final = ("leader", "member", "candidate")


def position(xlog: object) -> int | None:
    """Return how far the log is written, or was received or replayed (bytes); None: unknown."""
    if not isinstance(xlog, dict):
        return None
    told = (xlog.get(name) for name in ("location", "received_location", "replayed_location"))
    return max((place for place in told if isinstance(place, int)), default=None)


def number(value: object) -> int | None:
    """Return a number; None for what is none."""
    return value if isinstance(value, int) else None


def readable(value: bytes | None) -> dict[str, Any] | None:
    """Return the fields of one of Patroni's keys; None when it is not there or cannot be read."""
    return json_object(value or b"")


def pause(config: bytes | None) -> bool | None:
    """Return whether Patroni's configuration has a pause; None: unknown."""
    fields = readable(config)
    return None if fields is None else bool(fields.get("pause"))


def is_name(value: object) -> bool:
    """Return whether a value may be a member's name."""
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_NAME


def wished(value: bytes | str) -> dict[str, str] | None:
    """Return whom Patroni is asked to switch from (``leader``) and to (``member``).

    None for what Patroni is not shown: it would not survive it. Nothing here is ever scheduled.
    """
    fields = json_object(value) if value else {}
    if fields is None or fields.get("scheduled_at") is not None:
        return None
    names = {name: fields[name] for name in WISHED if fields.get(name) is not None}
    return names if all(map(is_name, names.values())) else None


def leader_position(status: bytes | None) -> int | None:
    """Return from Patroni's ``/status`` how far the leader's log was (bytes); None: unknown."""
    place = (readable(status) or {}).get("optime")
    return place if isinstance(place, int) and place > 0 else None


def lsn_text(lsn: int) -> str:
    """Write a position as PostgreSQL does."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
