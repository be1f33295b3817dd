"""The members of a simulated etcd: who is in it, who votes, and who leads the store."""

from dataclasses import replace

from tests.support.simulated.world.node import SimulatedNode
from tests.support.simulated.world.state import SimulatedState

from openvcha.node.identity import Identity
from openvcha.store.errors import (
    LearnerNotReady,
    MemberNotFound,
    NotLearner,
    PeerExists,
    StoreError,
)
from openvcha.store.interface import Member
from openvcha.system.network.host_port import url


def client_url(peer_url: str) -> str:
    """Return the URL that a member announces to clients once it runs."""
    return peer_url.rpartition(":")[0] + ":2379"


class SimulatedMembers(SimulatedState):
    """Changes members as etcd does, and records when the voters lose their majority."""

    def add_member(self, peer_url: str) -> Member:
        """Add a learner. Raises StoreError as etcd does."""
        if any(peer_url in member.peer_urls for member in self.members):
            raise PeerExists("peer URL exists")
        if any(member.learner for member in self.members):
            raise StoreError("too many learner members in cluster")
        member = Member(next(self._ids), "", (peer_url,), (), learner=True)
        self.members.append(member)
        return member

    def promote_member(self, member_id: int) -> None:
        """Make a learner a voter. Raises StoreError as etcd does."""
        for at, member in enumerate(self.members):
            if member.id == member_id:
                if not member.learner:
                    raise NotLearner("a voter")
                machine = self.machine_of(member.name)
                if machine is None or not machine.etcd:
                    raise LearnerNotReady("not in sync with leader")
                urls = (client_url(member.peer_urls[0]),)
                self.members[at] = Member(member.id, member.name, member.peer_urls, urls)
                if sum(not each.learner for each in self.members) > 3:
                    self.violations.append(f"a fourth voter: {member.name}")
                return
        raise MemberNotFound("no such member")

    def remove_member(self, member_id: int) -> None:
        """Remove a member. Raises StoreError as etcd does."""
        before = self.quorum()
        gone = [member for member in self.members if member.id == member_id]
        if not gone:
            raise MemberNotFound("no such member")
        if "removals are heard late" in self.faults and gone[0].id not in self.late:
            self.late.add(gone[0].id)
            return
        self.members.remove(gone[0])
        machine = self.machine_of(gone[0].name)
        if machine:
            machine.etcd = False
        self._elect()
        self._note_quorum(before, f"{gone[0].name} was removed")

    def _elect(self) -> None:
        """Let another voter lead the store when the previous leader is gone."""
        able = [
            member.name
            for member in self.members
            if not member.learner and (machine := self.machine_of(member.name)) and machine.etcd
        ]
        if self.raft not in able and able:
            self.elections += 1
            self.raft = able[0]

    def _note_quorum(self, before: bool, what: str) -> None:
        if before and not self.quorum():
            self.violations.append(f"no quorum since {what}")

    def _join_etcd(self, machine: SimulatedNode, identity: Identity) -> bool:
        """Learn the own member id once: it is kept on the disk for ever."""
        if "etcd never starts" in self.faults and identity.etcd_state == "existing":
            return False
        peer = url(identity.ha_address, identity.ports.etcd_peer)
        for member in self.members:
            ours = member.name == identity.member
            if ours or (not machine.member_id and not member.name and peer in member.peer_urls):
                machine.member_id = member.id
                return True
        return bool(machine.member_id)

    def _publish(self, machine: SimulatedNode, identity: Identity) -> bool:
        """Publish the own name; a removed member never gets that far."""
        for at, member in enumerate(self.members):
            if member.id == machine.member_id:
                self.members[at] = replace(member, name=identity.member)
                machine.etcd = True
                return True
        return False
