"""The nodes that a running task needs the votes of, kept on the own disk of each node.

Of two votes each is needed. Where the other one's node loses its power the store stops, and with it
the task that would know what to do: so what is needed then is written down before, on every node
that may be the one that is left.
"""

import datetime as dt
import errno
import os
import re
from collections.abc import Collection, Sequence

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.layout import Layout
from openvcha.system.durable import sync_directory, write_durably

FRESH_SECONDS = 300.0
"""How long a list counts that no majority has confirmed: long enough for a node to start again,
shorter than what people do with the nodes of a cluster that they have taken out of service."""


class Relied(msgspec.Struct, frozen=True, kw_only=True):
    """``nodes`` has the VM of each member that may vote while the task ``task`` runs.

    Empty is the VM of a node that a person made. ``active`` is the member that carries the task,
    ``gone`` the one that it replaces: whatever it still is, nobody counts on its vote.
    ``seen`` (ISO 8601) is when a majority last said so; in the store it is empty.
    """

    task: str
    active: str
    nodes: dict[str, str]
    gone: str = ""
    seen: str = ""


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Relied)
_UNKEPT = re.compile(rb"\d{1,20} (\d{1,4})")


def encode_relied(relied: Relied, seen: dt.datetime | None = None) -> bytes:
    """Write a list as its record, or as its file when it was ``seen``."""
    said = seen.isoformat(timespec="seconds") if seen else relied.seen
    return _ENCODER.encode(msgspec.structs.replace(relied, seen=said))


def decode_relied(value: bytes) -> Relied:
    """Read a list. Raises msgspec.DecodeError."""
    return _DECODER.decode(value)


def kept(revision: int) -> bytes:
    """Return what a node says that keeps the record of this revision."""
    return b"%d" % revision


def unkept(revision: int, error: OSError) -> bytes:
    """Return what a node says that cannot keep it."""
    return b"%d %d" % (revision, error.errno or errno.EIO)


def hindrance(said: bytes) -> str | None:
    """Return in words why a node cannot keep the record; None where it does not say so."""
    found = _UNKEPT.fullmatch(said)
    return os.strerror(int(found[1])) if found else None


def save_relied(layout: Layout, relied: Relied, seen: dt.datetime) -> None:
    """Keep a list on the disk, durably. Raises OSError."""
    write_durably(layout.relied, encode_relied(relied, seen))


def load_relied(layout: Layout) -> Relied | None:
    """Return the list that is kept; None where nothing readable is."""
    try:
        return decode_relied(layout.relied.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def forget_relied(layout: Layout) -> None:
    """Forget the list, durably: what is switched off from now on stays off. Raises OSError."""
    if layout.relied.exists():
        layout.relied.unlink(missing_ok=True)
        sync_directory(layout.root)


def is_fresh(relied: Relied, now: dt.datetime) -> bool:
    """Return whether a list counts still; one of an unknown age, or of the future, does not."""
    try:
        age = (now - dt.datetime.fromisoformat(relied.seen)).total_seconds()
    except (ValueError, TypeError):
        return False
    return abs(age) <= FRESH_SECONDS


def lacking(
    relied: Relied, own: str, voters: Sequence[str] | None, off: Collection[str]
) -> tuple[str, ...]:
    """Return the VMs that have to be powered on for the store to go on.

    ``voters`` are the members as the node's own etcd knows them, also without a majority; None
    where that is not known. ``off`` are the VMs that surely have no power: what is unknown counts
    as on. While a majority has power the store does not stop for want of it: then the node is cut
    off, or the others are starting, and who is off may be so on purpose.
    """
    who = tuple(relied.nodes) if voters is None else voters
    missing = [member for member in who if member != own and relied.nodes.get(member) in off]
    gone = sum(member == relied.gone for member in who if relied.gone)
    if voters is not None and 2 * (len(who) - len(missing) - gone) > len(who):
        return ()
    return tuple(relied.nodes[member] for member in missing)


prepare(__name__)
