"""SIMULATED members of a store, with sizes."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from openvcha.store.errors import StoreUnavailable
from openvcha.store.interface import EndpointStatus, Member
from openvcha.store.memory import MemoryStore


@dataclass
class Simulated:
    """A SIMULATED store of members with sizes; counts how many are away at the same time."""

    statuses: dict[str, EndpointStatus]
    left: int = 0
    """The bytes that are in use once the history is gone."""
    calls: list[str] = field(default_factory=list)
    late: dict[str, int] = field(default_factory=dict)
    """The looks after which a member has compacted, where it has not at once."""
    away: int = 0
    takes: float = 1.0
    """The seconds in which a member is defragmented."""
    strangers: tuple[str, ...] = ()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Return the URLs of the known members."""
        return tuple(f"https://{name}" for name in self.statuses if name not in self.strangers)

    async def members(self, *, local: bool = False) -> list[Member]:
        """Return the members."""
        del local
        return [
            Member(status.member_id, name, (), (f"https://{name}",))
            for name, status in self.statuses.items()
        ]

    async def status(self, endpoint: str) -> EndpointStatus:
        """Return the status of a member; a late one compacts some calls later."""
        if endpoint.removeprefix("https://") == "dead":
            raise StoreUnavailable("it is dead")
        name = endpoint.removeprefix("https://")
        if "compact 42" in self.calls and name in self.late:
            self.late[name] -= 1
            if self.late[name] == 0:
                self._compacted(name)
        return self.statuses[name]

    async def compact(self, revision: int) -> None:
        """Record the call; compact all members but the late ones."""
        self.calls.append(f"compact {revision}")
        for name in self.statuses.keys() - self.late.keys():
            self._compacted(name)

    def _compacted(self, name: str) -> None:
        self.statuses[name] = replace(self.statuses[name], db_in_use=self.left)

    async def defragment(self, endpoint: str) -> None:
        """Shrink a member that does not lead, one at a time."""
        name = endpoint.removeprefix("https://")
        self.away += 1
        assert self.away == 1, "two at once"
        await asyncio.sleep(self.takes)
        status = self.statuses[name]
        assert status.leader != status.member_id, "it leads"
        self.statuses[name] = replace(status, db_size=status.db_in_use)
        self.calls.append(f"defragment {name}")
        self.away -= 1

    async def members_without_space(self) -> frozenset[int]:
        """Return the ids of the full members."""
        return frozenset(s.member_id for s in self.statuses.values() if s.full)

    async def disarm_alarm(self, members: frozenset[int]) -> None:
        """Record the call; clear the alarm of these members."""
        self.calls.append("disarm")
        for name, status in self.statuses.items():
            if status.member_id in members:
                self.statuses[name] = replace(status, full=False)

    async def move_leader(self, endpoint: str, member_id: int) -> None:
        """Record the call; make another member the leader."""
        self.calls.append(f"leader {member_id}")
        old = self.statuses[endpoint.removeprefix("https://")]
        assert old.leader == old.member_id, "it does not lead"
        for name, status in self.statuses.items():
            self.statuses[name] = replace(status, leader=member_id)


def simulated(left: int, **names: int) -> Simulated:
    """Return full members with these sizes, in bytes; each is ``left`` after a compaction."""
    statuses = {
        name: EndpointStatus(number, 1, "3.4", size, 1, 1, revision=42, db_in_use=size, full=True)
        for number, (name, size) in enumerate(names.items(), 1)
    }
    return Simulated(statuses, left)


class StoreWithMembers(MemoryStore):
    """Keys in memory, and SIMULATED members."""

    def __init__(self, members: Simulated) -> None:
        super().__init__()
        self.simulated = members

    def __getattr__(self, name: str) -> Any:
        return getattr(self.simulated, name)

    async def compact(self, revision: int) -> None:
        """Compact the simulated members."""
        await self.simulated.compact(revision)
