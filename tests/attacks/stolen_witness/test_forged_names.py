"""A thief with a vote announces names in the store: for his own member, or for another one."""

import asyncio
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import msgspec
import pytest
from tests.support.simulated.kept_cluster import IDENTITY, kept
from tests.support.simulated.observations import ObservationBuilder

from openvcha.node.etcd import member as etcd
from openvcha.node.etcd.endpoints import register
from openvcha.node.etcd.member import wait_until_admitted
from openvcha.node.identity import save_identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import save_kept
from openvcha.node.local_records.sealed_records import KeptRecords
from openvcha.node.patroni.patches.members import (
    FRESH_SECONDS,
    Voters,
    _with_members,
    known_addresses,
)
from openvcha.store import keys
from openvcha.store.etcd import wire
from openvcha.store.records import encode
from openvcha.store.sealing.kept import GoodValue

CONFIG = ObservationBuilder().seen.config
ACTIVE, PASSIVE, WITNESS = (node.ha_address for node in CONFIG.nodes)
NEW = "127.83.2.99"


def listed(*members: tuple[int, str, str]) -> list[dict[str, Any]]:
    """Return etcd's list of these members: id, announced name, HA address."""
    return [
        {"ID": str(one), "name": name, "peerURLs": [f"https://{address}:2380"]}
        for one, name, address in members
    ]


TRUE = listed((1, "a-1", ACTIVE), (2, "b-2", PASSIVE), (3, "w-3", WITNESS))


class Node:
    """A data node's Patroni, with the node's files and etcd's list as the thief left them."""

    def __init__(self, directory: Path) -> None:
        self.layout = Layout(directory)
        self.members = TRUE
        self.now = 0.0
        save_identity(
            directory, msgspec.structs.replace(IDENTITY, ha_address=ACTIVE, data_nodes={})
        )
        self.keep(encode(CONFIG))
        self.restart()
        self._cluster_version = (3, 5, 1)
        self._client = self

    def keep(self, configuration: bytes) -> None:
        KeptRecords(self.layout, writes=True).save(keys.CLUSTER, GoodValue(configuration, 1))

    def restart(self) -> None:
        """Start Patroni anew: it has seen no list."""
        self.voters = Voters(lambda: known_addresses(self.layout), lambda: self.now)

    def handle_auth_errors(self, *_: Any) -> dict[str, Any]:
        return {"members": self.members}

    def sees(self, *members: tuple[int, str, str]) -> None:
        self.members = listed(*members)
        self.now += FRESH_SECONDS

    def leads(self, own: str = "a-1") -> bool:
        ha = SimpleNamespace(
            dcs=self,
            state_handler=SimpleNamespace(name=own),
            set_is_leader=lambda _: None,
        )
        return self.voters.locking(lambda _: True)(ha)

    def candidates(self, *names: str) -> list[str]:
        self.voters.ask(self)
        members = [SimpleNamespace(name=name, nostream=False) for name in names]
        cluster = _with_members(import_module("patroni.dcs").Cluster.empty(), members)

        def choose(_: Any, seen: Any) -> Any:
            return SimpleNamespace(active=[member.name for member in seen.members])

        found: list[str] = self.voters.choosing(choose)(None, cluster).active
        return found


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize("name", ["x-9", "w-3", "b-2", ""])
def test_a_healthy_active_that_he_renames_leads_on(node: Node, name: str) -> None:
    """Also with the passive renamed: both keep the names that their addresses have proven."""
    assert node.leads()
    node.sees((1, name, ACTIVE), (2, "y-9", PASSIVE), (3, "w-3", WITNESS))
    assert node.leads()
    assert node.candidates("a-1", "b-2", "x-9", "y-9") == ["a-1", "b-2"]


@pytest.mark.parametrize("restarted", [True, False])
def test_the_name_of_a_removed_passive_gives_no_vote(node: Node, restarted: bool) -> None:
    """His own member takes it, before or after a restart of Patroni."""
    assert node.leads("b-2")
    if restarted:
        node.restart()
    node.sees((1, "a-1", ACTIVE), (3, "b-2", WITNESS))
    assert not node.leads("b-2")
    assert node.candidates("a-1", "b-2") == ["a-1"]


def test_nor_does_its_address(node: Node) -> None:
    """His member announces it as well; only the removed one's id was proven by it."""
    assert node.leads("b-2")
    node.sees((1, "a-1", ACTIVE), (3, "b-2", PASSIVE))
    assert not node.leads("b-2")
    assert node.candidates("a-1", "b-2") == ["a-1"]


def test_a_successor_at_the_same_address_is_another_one(node: Node) -> None:
    """A removed passive that comes back has its address in common with the one that votes now."""
    assert node.leads("b-2")
    register(node.layout, {"c-4": PASSIVE})
    node.sees((1, "a-1", ACTIVE), (4, "c-4", PASSIVE), (3, "w-3", WITNESS))
    assert node.candidates("a-1", "b-2", "c-4") == ["a-1", "c-4"]
    assert not node.leads("b-2")


def test_a_node_that_is_being_created_votes(node: Node) -> None:
    """The configuration names it only at the end; the active's own file does before."""
    register(node.layout, {"c-4": NEW})
    node.sees((1, "a-1", ACTIVE), (4, "c-4", NEW), (3, "w-3", WITNESS))
    assert node.candidates("a-1", "b-2", "c-4") == ["a-1", "c-4"]


def test_without_the_configuration_announced_names_count(node: Node) -> None:
    """Unknown is no verdict: neither a standby nor the leader is dismissed; proven names stay."""
    node.keep(b"{")
    assert node.candidates("a-1", "b-2", "frozen-9") == ["a-1", "b-2"]
    node.keep(encode(CONFIG))
    node.sees((1, "a-1", ACTIVE), (2, "b-2", PASSIVE))
    assert node.leads()
    node.keep(b"{")
    node.sees((1, "x-9", ACTIVE), (2, "b-2", PASSIVE))
    assert node.leads()


@pytest.mark.parametrize("peers", [["https://["], [], [f"https://{PASSIVE}:1", "https://[::1]:2"]])
def test_a_peer_url_that_proves_nothing(node: Node, peers: list[str]) -> None:
    """One that is malformed or missing, or a second one beside it; the others count."""
    node.members = [TRUE[0], {**TRUE[1], "peerURLs": peers}]
    assert node.candidates("a-1", "b-2") == ["a-1"]


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the other members' clients, and our own member, which is down."""
    members: list[dict[str, Any]] = []

    class Others:
        def __init__(self, *_: Any, **__: Any) -> None:
            """Connect to nobody."""

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            """Do nothing."""

        async def members(self) -> Any:
            return wire.members({"members": members})

    async def silent(*_: Any) -> bool:
        return False

    monkeypatch.setattr(etcd, "Etcd", Others)
    monkeypatch.setattr(etcd, "is_healthy", silent)
    return members


@pytest.mark.looptime
async def test_a_removed_node_does_not_start_for_a_forged_name(
    others: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Its own etcd is down; the store lists its name, but at the address of the thief."""
    layout, own = Layout(tmp_path), IDENTITY.ha_address
    save_kept(layout, kept())
    register(layout, {"b-2": "127.1.1.4"})
    tls: Any = lambda: None  # noqa: E731 - nothing is connected
    others[:] = listed((5, IDENTITY.member, WITNESS), (6, "c-4", own))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30):
            await wait_until_admitted(IDENTITY, layout, tls)
    others.extend(listed((1, IDENTITY.member, own)))
    async with asyncio.timeout(30):
        await wait_until_admitted(IDENTITY, layout, tls)
