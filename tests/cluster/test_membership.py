"""Which votes may be removed, even when two nodes use one address in succession."""

from collections.abc import Iterable, Sequence

import pytest

from openvcha.cluster import membership
from openvcha.cluster.patroni_client import revoke_candidacy, sync_state
from openvcha.store import keys
from openvcha.store.errors import LearnerNotReady, MemberNotFound, NotLearner, StoreUnavailable
from openvcha.store.interface import EndpointStatus, KeyValue, Member, Membership
from openvcha.store.memory import MemoryStore

URL = "https://127.83.2.12:2380"
OTHER = "https://127.83.2.11:2380"


class Members(Membership):
    """Simulated: a list of members, and the answers to a promotion."""

    def __init__(self, *members: Member, promoting: Exception | None = None) -> None:
        self.list = list(members)
        self._promoting = promoting
        self.leader = 0
        self.moving: Exception | None = None

    async def members(self, *, local: bool = False) -> list[Member]:
        del local
        return list(self.list)

    async def member_remove(self, member_id: int) -> None:
        self.list = [member for member in self.list if member.id != member_id]

    async def member_promote(self, member_id: int) -> None:
        del member_id
        if self._promoting:
            raise self._promoting

    async def member_add(self, peer_urls: Sequence[str], *, learner: bool = True) -> Member:
        raise NotImplementedError(peer_urls, learner)

    async def healthy(
        self,
        endpoint: str,
        timeout: float,  # noqa: ASYNC109 - the protocol's
        *,
        since: float | None = None,
    ) -> bool:
        raise NotImplementedError(endpoint, timeout, since)

    async def status(self, endpoint: str) -> EndpointStatus:
        (own,) = (member for member in self.list if endpoint in member.client_urls)
        return EndpointStatus(own.id, self.leader, "3", 0, 1, 1)

    async def move_leader(self, endpoint: str, member_id: int) -> None:
        if self.moving:
            raise self.moving
        (asked,) = (member for member in self.list if endpoint in member.client_urls)
        assert asked.id == self.leader, "only who leads can hand the lead on"
        self.leader = member_id


def names(members: Iterable[Member]) -> list[str]:
    return [member.name for member in members]


async def test_the_old_node_is_known_by_its_name_alone() -> None:
    """Its unstarted successor at the same address is not mistaken for it."""
    store = Members(Member(1, "a-1", (OTHER,), ()), Member(2, "", (URL,), (), learner=True))
    await membership.remove(store, "old-2")
    assert names(store.list) == ["a-1", ""]


async def test_what_a_failed_undo_left_is_removed_and_nobody_else() -> None:
    """An unknown member at the new node's URL, a learner elsewhere, a dead vote: all go."""
    store = Members(
        Member(1, "a-1", (OTHER,), ()),
        Member(2, "half-made", (URL,), (), learner=True),
        Member(3, "", ("https://127.83.2.99:2380",), (), learner=True),
        Member(4, "", (URL,), (), learner=True),
    )
    await membership.remove_unknown(store, {"a-1", "new-2"}, {URL})
    assert [member.id for member in store.list] == [1, 4]


@pytest.mark.parametrize(
    ("answer", "votes"),
    [
        (LearnerNotReady("not yet"), False),
        (MemberNotFound("gone"), False),
        (NotLearner("votes"), True),
        (None, True),
    ],
)
async def test_promoting_is_asked_again_until_it_votes(
    answer: Exception | None, votes: bool
) -> None:
    """No answer of etcd to a promotion fails the task."""
    store = Members(Member(2, "new-2", (URL,), (), learner=True), promoting=answer)
    assert await membership.promote(store, "new-2", URL) is votes


async def test_a_member_is_barred_from_taking_over() -> None:
    """Only this member loses the right, and only while another one leads."""
    store = MemoryStore()
    await store.put(keys.PATRONI_LEADER, b"a-1")
    await store.put(keys.PATRONI_SYNC, b'{"leader": "a-1", "sync_standby": "b-2,c-3", "quorum": 0}')
    assert await revoke_candidacy(store, "b-2")
    assert (await sync_state(store)).standbys == {"c-3"}
    assert await revoke_candidacy(store, "b-2")
    assert not await revoke_candidacy(store, "a-1")
    await store.delete(keys.PATRONI_LEADER)
    assert not await revoke_candidacy(store, "c-3")
    assert (await sync_state(store)).standbys == {"c-3"}


class TakenOver(MemoryStore):
    """A store in which ``b-2`` takes the lead right after the first read."""

    async def get(self, key: str) -> KeyValue | None:
        found = await super().get(key)
        await self.put(keys.PATRONI_LEADER, b"b-2")
        await self.put(keys.PATRONI_SYNC, b'{"leader": "b-2", "sync_standby": null, "quorum": 0}')
        return found


async def test_who_has_just_taken_the_lead_is_not_taken_for_barred() -> None:
    """``/sync`` names it no longer, because it leads."""
    store = TakenOver()
    await store.put(keys.PATRONI_LEADER, b"a-1")
    await store.put(keys.PATRONI_SYNC, b'{"leader": "a-1", "sync_standby": "b-2", "quorum": 0}')
    barred = await revoke_candidacy(store, "b-2")
    leads = (await store.get_many([keys.PATRONI_LEADER]))[0]
    assert barred is (leads is not None and leads.value == b"a-1")


def voters() -> Members:
    return Members(*(Member(n, name, (), (f"https://{name}",)) for n, name in enumerate("abc", 1)))


async def test_the_lead_is_handed_to_who_is_to_have_it() -> None:
    """The current leader is asked; if it is the target already, nothing is."""
    store = voters()
    store.leader = 3
    await membership.ensure_leader(store, "a")
    assert store.leader == 1
    store.moving = AssertionError("nothing is to be moved")
    await membership.ensure_leader(store, "a")


async def test_a_lead_that_cannot_be_handed_on_stays() -> None:
    """It is best effort: the caller goes on without it."""
    store = voters()
    store.leader = 3
    store.moving = StoreUnavailable("away")
    await membership.ensure_leader(store, "a")
    assert store.leader == 3
