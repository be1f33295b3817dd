"""A simulated machine: its disk, and what runs on it."""

import asyncio
import errno
import os
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

import msgspec

from openvcha.node.identity import IDENTITY, Identity
from openvcha.node.layout import REQUIRED_VOTES
from openvcha.node.local_records.required_votes import (
    RequiredVotes,
    decode_required_votes,
    encode_required_votes,
)
from openvcha.node.security.certificates import KeyPair


@cache
def _identity(content: bytes) -> Identity:
    """Decode a file that is read on each look at a simulated machine and rarely written."""
    return msgspec.json.decode(content, type=Identity)


@dataclass
class SimulatedNode:
    """A VM's disk and what runs on it. ``written`` is how far its copy of the data goes."""

    files: dict[str, bytes] = field(default_factory=dict)
    running: asyncio.Task[None] | None = None
    etcd: bool = False
    member_id: int = 0
    postgres: str = ""
    """primary, streaming or nothing."""
    written: int = -1
    authority: int = 0
    renewing: bool = False
    beside: tuple[asyncio.Task[None], ...] = ()
    """What runs beside etcd and PostgreSQL, as long as it has power."""
    registered: dict[str, str] = field(default_factory=dict)
    full: bool = False
    """Nothing more can be written to its disk."""
    demoted: bool = False
    """Led until it was told to stop; follows again soon."""
    key: KeyPair | None = None
    """Its key, once it has created that, with the request for its certificate."""

    @property
    def on(self) -> bool:
        """Return whether the node is powered on."""
        return self.running is not None

    @property
    def joined(self) -> bool:
        """Return whether the node has its identity."""
        return bool(self.files.get(IDENTITY))

    @property
    def identity(self) -> Identity:
        """Return the identity in the node's files."""
        return _identity(self.files[IDENTITY])

    @property
    def required_votes(self) -> RequiredVotes | None:
        """Return the voters that a task needs, as the machine's disk has them."""
        kept = self.files.get(REQUIRED_VOTES)
        return decode_required_votes(kept) if kept else None

    def keep(self, required_votes: RequiredVotes, seen: datetime) -> None:
        """Store the required votes in the node's files. Raises OSError if its disk is full."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.files[REQUIRED_VOTES] = encode_required_votes(required_votes, seen)

    def forget(self) -> None:
        """Delete the stored required votes."""
        if self.full and REQUIRED_VOTES in self.files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.files.pop(REQUIRED_VOTES, None)
