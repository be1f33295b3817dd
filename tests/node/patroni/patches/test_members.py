"""A member without a vote in the store is no standby, does not lead, and keeps no slot."""

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openvcha.node.patroni.patches.members import (
    FRESH_SECONDS,
    STEADY_SECONDS,
    Voters,
    install,
    voters_of,
)
from openvcha.store.etcd import wire

MEMBERS = [{"ID": "1", "name": "a-1"}, {"ID": "2", "name": "b-2"}, {"ID": "3", "name": "w-3"}]


class Store:
    """Stands in for Patroni's etcd client; counts the requests.

    ``remembered`` is the endpoint's outdated list, until a linearizable read lets it catch up.
    """

    def __init__(self, members: list[dict[str, Any]] | None) -> None:
        self.members = members
        self.remembered: list[dict[str, Any]] | None = None
        self.quorum = True
        self.asked = 0
        self.requests = 0
        self._cluster_version: tuple[int, ...] = (3, 4, 23)
        self._client = self
        self._last_retain_slots: dict[str, float] = {}

    def handle_auth_errors(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return work(self, *arguments, retry=None)

    def call_rpc(self, method: str, fields: dict[str, Any], _: None) -> dict[str, Any]:
        self.requests += 1
        linearizable = fields.get("linearizable", False)
        if linearizable and self._cluster_version >= (3, 5):
            if not self.quorum:
                raise OSError("no quorum")
            self.remembered = None
        if method == "/kv/range":
            assert not fields.get("serializable")
            if not self.quorum:
                raise OSError("no quorum")
            fields["retry"] = None  # like Patroni's own
            self.remembered = None
            return {}
        assert method == "/cluster/member/list"
        assert fields.keys() <= {"linearizable"}
        self.asked += 1
        fields["retry"] = None  # like Patroni's own
        if self.members is None:
            raise OSError("away")
        return {"members": self.members if self.remembered is None else self.remembered}


def cluster(*names: str, sync: str = "") -> Any:
    """Return a cluster of Patroni's own type with these members; ``/sync`` names ``sync``."""
    dcs = import_module("patroni.dcs")
    members = [SimpleNamespace(name=name, nostream=False) for name in names]
    empty = dcs.Cluster.empty()
    fields = {name: getattr(empty, name) for name in empty._fields}
    return dcs.Cluster(**{**fields, "members": members, "sync": dcs.SyncState(1, "a-1", sync, 0)})


def candidates(voters: Voters, *names: str, sync: str = "") -> list[str]:
    """Return the members that Patroni may still choose from."""

    def choose(_: Any, seen: Any) -> Any:
        return SimpleNamespace(active=[member.name for member in seen.members])

    found: list[str] = voters.choosing(choose)(None, cluster(*names, sync=sync)).active
    return found


def locks(voters: Voters, store: Store, own: str) -> bool:
    held: list[bool] = []
    high_availability = SimpleNamespace(
        dcs=store, state_handler=SimpleNamespace(name=own), set_is_leader=held.append
    )
    taken = voters.locking(lambda _: True)(high_availability)
    # Patroni must not believe that it still leads, with a key that it does not have.
    assert held == ([] if taken else [False])
    return taken


@pytest.fixture
def now() -> dict[str, float]:
    return {"now": 0.0}


@pytest.fixture
def voters(now: dict[str, float]) -> Voters:
    return Voters(lambda: None, lambda: now["now"])


def test_a_member_without_a_vote_is_no_candidate(voters: Voters) -> None:
    """It streams and is registered, like a node that was frozen while it was replaced."""
    voters.ask(Store(MEMBERS))
    assert candidates(voters, "a-1", "b-2", "frozen-9") == ["a-1", "b-2"]


def test_it_is_barred_as_soon_as_it_is_removed(voters: Voters, now: dict[str, float]) -> None:
    """The list is read again in each of the leader's loops."""
    store = Store(MEMBERS)
    voters.ask(store)
    store.members = [MEMBERS[0], MEMBERS[2]]
    now["now"] += FRESH_SECONDS
    voters.ask(store)
    assert candidates(voters, "a-1", "b-2") == ["a-1"]


def test_a_store_that_is_away_changes_no_choice(voters: Voters, now: dict[str, float]) -> None:
    """Otherwise an active in maintenance would drop a standby that streams."""
    away = Store(None)
    voters.ask(away)
    assert candidates(voters, "a-1", "b-2") == ["a-1", "b-2"]
    voters.ask(Store(MEMBERS))
    now["now"] += 60
    voters.ask(away)
    assert candidates(voters, "b-2", "frozen-9") == ["b-2"]


def test_who_has_no_vote_does_not_take_the_leader_key(voters: Voters) -> None:
    """Its own side checks this too; a voter does take it."""
    assert not locks(voters, Store(MEMBERS), "frozen-9")
    assert locks(voters, Store(MEMBERS), "b-2")


@pytest.mark.parametrize(("version", "requests"), [((3, 4, 23), 2), ((3, 5), 1), ((3, 6, 0), 1)])
def test_what_an_endpoint_remembers_is_not_taken_for_the_list(
    voters: Voters, version: tuple[int, ...], requests: int
) -> None:
    """A frozen node's etcd still lists it, until it hears from the others."""
    store = Store(MEMBERS)
    store._cluster_version = version
    store.remembered = [*MEMBERS, {"ID": "9", "name": "frozen-9"}]
    assert not locks(voters, store, "frozen-9")
    assert store.requests == requests


@pytest.mark.parametrize("version", [(3, 4, 23), (3, 5, 1)])
def test_without_a_quorum_nothing_new_is_learned(
    voters: Voters, now: dict[str, float], version: tuple[int, ...]
) -> None:
    """The known list stays."""
    voters.ask(Store(MEMBERS))
    now["now"] += 60
    cut_off = Store([{"ID": "9", "name": "frozen-9"}])
    cut_off._cluster_version = version
    cut_off.quorum = False
    assert not locks(voters, cut_off, "frozen-9")
    assert cut_off.asked == 0


def test_the_first_of_all_leads_though_nobody_could_be_asked(voters: Voters) -> None:
    """Without the store it gets no key anyway."""
    assert locks(voters, Store(None), "a-1")


def test_the_slot_of_a_removed_member_is_not_kept(voters: Voters) -> None:
    """Each later leader would keep it for five minutes more."""
    store = Store(MEMBERS)
    store._last_retain_slots = {"b_2": 1.0, "frozen_9": 1.0}
    slot = import_module("patroni.dcs").slot_name_from_member_name
    build = voters.retaining(lambda *_: ["b_2", "frozen_9"], slot)
    assert build(store, cluster("a-1"), {}) == ["b_2"]
    assert store._last_retain_slots == {"b_2": 1.0}


def test_the_store_is_not_asked_all_the_time(voters: Voters) -> None:
    """Each loop of Patroni asks once."""
    store = Store(MEMBERS)
    for _ in range(5):
        voters.ask(store)
    assert store.asked == 1


def test_an_idle_leader_asks_now_and_then(voters: Voters, now: dict[str, float]) -> None:
    """Its loops give nobody anything; a removed member keeps its slot for seconds at most."""
    store = Store(MEMBERS)
    slot = import_module("patroni.dcs").slot_name_from_member_name
    build = voters.retaining(lambda *_: ["b_2", "w_3"], slot)
    for _ in range(int(STEADY_SECONDS)):
        build(store, cluster("a-1", "b-2"), {})
        assert candidates(voters, "b-2", sync="b-2") == ["b-2"]
        now["now"] += 1
    assert store.asked == 1
    store.members = MEMBERS[:2]
    assert build(store, cluster("a-1", "b-2"), {}) == ["b_2"]


def test_a_place_in_sync_is_given_by_a_fresh_list(voters: Voters, now: dict[str, float]) -> None:
    """It streams and is registered, and has just been removed."""
    store = Store(MEMBERS)
    voters.ask(store)
    store.members = [MEMBERS[0], MEMBERS[2]]
    now["now"] += FRESH_SECONDS
    assert candidates(voters, "b-2") == []


def test_who_has_not_started_or_only_learns_does_not_vote() -> None:
    """A learner has no reliable data yet."""
    learner = {"ID": "4", "name": "new-4", "isLearner": True}
    members = [MEMBERS[0], {"ID": "2", "name": ""}, {"ID": "3"}, learner]
    assert [one.name for one in voters_of(wire.members({"members": members}))] == ["a-1"]


def test_patroni_has_all_that_is_extended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another version of Patroni is detected here; the slot test uses this one's real code."""
    names = ("patroni.dcs", "patroni.dcs.etcd3", "patroni.ha", "patroni.postgresql.sync")
    dcs, _, ha, sync = (import_module(name) for name in names)
    places = [
        (dcs.AbstractDCS, "_build_retain_slots"),
        (sync.SyncHandler, "current_state"),
        (ha.Ha, "acquire_lock"),
    ]
    before = [getattr(*place) for place in places]
    for place, found in zip(places, before, strict=True):
        monkeypatch.setattr(*place, found)
    monkeypatch.setattr("sys.argv", ["patroni", str(tmp_path / "patroni.yml")])
    install()
    assert all(getattr(*place) is not found for place, found in zip(places, before, strict=True))
    store = Store(MEMBERS)
    store._last_retain_slots = {"b_2": time.time(), "frozen_9": time.time()}
    store._name = "a-1"  # type: ignore[attr-defined]  # as Patroni's own has it
    monkeypatch.setattr(dcs.global_config.__class__, "member_slots_ttl", 300)
    assert dcs.AbstractDCS._build_retain_slots(store, cluster("a-1"), None) == ["b_2"]
