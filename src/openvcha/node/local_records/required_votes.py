"""The required votes: the nodes that a running task needs, kept on each node's own disk.

With two voters both are needed. If one of them loses power the store stops, and with it the task
that could handle that. So every node that may be the only one left stores in advance what to do.
"""

import datetime as dt
import errno
import os
import re
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

import msgspec
from msgspec import UNSET, UnsetType

from openvcha.api.prepared import prepare
from openvcha.node.layout import Layout
from openvcha.system.files.durable import sync_directory, write_durably
from openvcha.system.files.locks import DIRECTORY, locked

FRESH_SECONDS = 300.0
"""How long a list is valid without confirmation: long enough for a node to restart, shorter than
what operators do with nodes that they have taken out of service."""
MAX_RENEWAL_SECONDS = 86400.0
"""For how long a node itself may confirm a list that no majority confirms any longer."""


class RequiredVotes(msgspec.Struct, frozen=True, kw_only=True):
    """The votes that the store needs while a task changes the voters.

    ``nodes`` maps each member that may vote while the task ``task`` runs to its VM.

    The VM of a node that an operator created is empty. ``active`` is the member that runs the
    task, ``gone`` the one that it replaces, whose vote never counts. ``seen`` (ISO 8601) is the
    last confirmation: by a majority, or by the node itself while there is none without its vote.
    In the store it is empty. ``confirmed`` (ISO 8601) is the last confirmation by a majority, if
    the node itself has confirmed the list since; only the file has it.
    """

    task: str
    active: str
    nodes: dict[str, str]
    gone: str = ""
    seen: str = ""
    confirmed: str | UnsetType = UNSET


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(RequiredVotes)
_UNKEPT = re.compile(rb"\d{1,20} (\d{1,4})")


def encode_required_votes(required_votes: RequiredVotes, seen: dt.datetime | None = None) -> bytes:
    """Encode a list as a record or, with ``seen``, as a file."""
    said = seen.isoformat(timespec="seconds") if seen else required_votes.seen
    return _ENCODER.encode(msgspec.structs.replace(required_votes, seen=said))


def decode_required_votes(value: bytes) -> RequiredVotes:
    """Decode a list. Raises msgspec.DecodeError."""
    return _DECODER.decode(value)


def kept(revision: int) -> bytes:
    """Return a node's confirmation that it has stored the record of this revision."""
    return b"%d" % revision


def not_kept_reply(revision: int, error: OSError) -> bytes:
    """Return a node's report that it cannot store the record."""
    return b"%d %d" % (revision, error.errno or errno.EIO)


def not_kept_reason(said: bytes) -> str | None:
    """Return why a node cannot store the record; None if it does not report that."""
    found = _UNKEPT.fullmatch(said)
    return os.strerror(int(found[1])) if found else None


def save_required_votes(layout: Layout, required_votes: RequiredVotes, seen: dt.datetime) -> None:
    """Write a list that a majority has confirmed to disk durably. Raises OSError."""
    with _exclusive(layout):
        write_durably(layout.required_votes, encode_required_votes(required_votes, seen))


def renew_required_votes(layout: Layout, known: RequiredVotes, seen: dt.datetime) -> None:
    """Write a list with a new time, unless the one on disk is no longer ``known``. Raises OSError.

    Another process may have replaced or deleted it. Without a majority for too long, do nothing.
    """
    confirmed = known.seen if known.confirmed is UNSET else known.confirmed
    if not _is_within(confirmed, seen, MAX_RENEWAL_SECONDS):
        return
    renewed = msgspec.structs.replace(known, confirmed=confirmed)
    with _exclusive(layout):
        if load_required_votes(layout) == known:
            write_durably(layout.required_votes, encode_required_votes(renewed, seen))


def is_list(known: RequiredVotes, required_votes: RequiredVotes) -> bool:
    """Return whether a list on disk is this one of the store, whatever its times."""
    return msgspec.structs.replace(known, seen="", confirmed=UNSET) == required_votes


def _exclusive(layout: Layout) -> AbstractContextManager[None]:
    """Return the lock of the file, which two programs write; it needs no space on the disk."""
    return locked(layout.root, DIRECTORY)


def load_required_votes(layout: Layout) -> RequiredVotes | None:
    """Return the list on disk; None if it is missing or unreadable."""
    try:
        return decode_required_votes(layout.required_votes.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def forget_required_votes(layout: Layout) -> None:
    """Delete the list durably: from now on VMs that are powered off stay off. Raises OSError."""
    with _exclusive(layout):
        if layout.required_votes.exists():
            layout.required_votes.unlink(missing_ok=True)
            sync_directory(layout.root)


def is_fresh(
    required_votes: RequiredVotes, now: dt.datetime, seconds: float = FRESH_SECONDS
) -> bool:
    """Return whether a list was confirmed within ``seconds``; False if its age is unknown."""
    return _is_within(required_votes.seen, now, seconds)


def _is_within(written: str, now: dt.datetime, seconds: float) -> bool:
    try:
        age = (now - dt.datetime.fromisoformat(written)).total_seconds()
    except (ValueError, TypeError):
        return False
    return abs(age) <= seconds


def needs_vote(own: str, voters: Sequence[str] | None) -> bool:
    """Return whether nothing can be decided without the vote of ``own``; False if unknown."""
    return voters is not None and own in voters and len(voters) - 1 < len(voters) // 2 + 1


def vms_to_power_on(
    required_votes: RequiredVotes, own: str, voters: Sequence[str] | None, off: Collection[str]
) -> tuple[str, ...]:
    """Return the VMs that must be powered on to restore the store's quorum.

    ``voters`` are the members that the node's own etcd knows, even without quorum; None if unknown.
    ``off`` are the VMs that are known to be powered off; unknown counts as on. While a majority is
    powered on, power is not the cause: the node is isolated, or the others are starting, and a VM
    may be powered off on purpose.
    """
    who = tuple(required_votes.nodes) if voters is None else voters
    missing = [
        member for member in who if member != own and required_votes.nodes.get(member) in off
    ]
    gone = sum(member == required_votes.gone for member in who if required_votes.gone)
    if voters is not None and 2 * (len(who) - len(missing) - gone) > len(who):
        return ()
    return tuple(required_votes.nodes[member] for member in missing)


prepare(__name__)
