"""The proof that no other node can lead for a while: by it the kernel keeps the public address."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from openvcha.node.address.interface.lifetime import MARGIN_SECONDS, UNPROVEN, boot_time
from openvcha.node.public_interface import MAX_ADDRESS_LIFETIME
from openvcha.store.errors import StoreError

ANSWER_SECONDS: Final = 1.0
ALONE_SECONDS: Final = MAX_ADDRESS_LIFETIME + MARGIN_SECONDS
"""How long it counts that no other node may lead: until the next replies have come."""


@dataclass(frozen=True)
class Asked:
    """When something was asked; an answer proves nothing that has ended in the meantime."""

    at: float
    ends: int


class LeaderProof:
    """Until when no other node can lead, unless this one hands over the leader key.

    A handover is a change of the key, which ends the proof at once. ``remaining`` returns for how
    many seconds a lease of the store remains, as `Store` does; ``leader_ttl`` is the longest.
    """

    def __init__(
        self,
        remaining: Callable[[int], Awaitable[int]],
        leader_ttl: int,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self._remaining = remaining
        self._leader_ttl = leader_ttl
        self._clock = clock
        self._until = UNPROVEN
        self._ends = 0

    @property
    def until(self) -> float:
        """Return until when (`boot_time`) no other node can lead."""
        return self._until

    def ask(self) -> Asked:
        """Return a note of the moment in which something is asked."""
        return Asked(self._clock(), self._ends)

    def end(self) -> None:
        """End the proof: the key does not name this node."""
        self._ends += 1
        self._until = UNPROVEN

    async def renew(self, lease: int) -> None:
        """Prove that this node leads as long as its key's lease remains; else nothing changes."""
        asked = self.ask()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                seconds = await self._remaining(lease)
        except (StoreError, TimeoutError):
            return
        # A member of the store may lie, but no lease is longer than this.
        self._extend(asked, min(seconds, self._leader_ttl))

    def alone(self, asked: Asked) -> None:
        """Prove that this node leads, since in the cluster's mode no other one may."""
        self._extend(asked, ALONE_SECONDS)

    def _extend(self, asked: Asked, seconds: float) -> None:
        if asked.ends == self._ends:
            self._until = max(self._until, asked.at + seconds)
