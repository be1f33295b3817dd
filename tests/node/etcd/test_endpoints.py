"""Which members a data node connects to: configured data nodes that still vote."""

from pathlib import Path

import msgspec
import pytest
from tests.support.simulated.kept_cluster import IDENTITY, kept, member
from tests.support.simulated.observations import ObservationBuilder

from openvcha.cluster.config import ClusterConfig, NodeKind, PlannedNode
from openvcha.node.etcd.endpoints import (
    MemberAddresses,
    configured_addresses,
    data_endpoints,
    register,
    trusted_addresses,
)
from openvcha.node.etcd.member import known_endpoints
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import MajorityView, save_kept
from openvcha.node.local_records.sealed_records import KeptRecords
from openvcha.store import keys
from openvcha.store.records import encode
from openvcha.store.sealing.kept import GoodValue

OWN, OTHER, THIRD = "127.83.2.11", "127.83.2.12", "127.83.2.13"
NODE = msgspec.structs.replace(IDENTITY, ha_address=OWN, data_nodes={"b-2": OTHER})
VOTERS = {"a-1", "b-2", "w-3"}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def config() -> ClusterConfig:
    """Return the configuration: two nodes with data, and a witness at the third address."""
    return ObservationBuilder().seen.config


def keep_record(layout: Layout, found: ClusterConfig) -> None:
    KeptRecords(layout, writes=True).save(keys.CLUSTER, GoodValue(encode(found), 1))


def asked(layout: Layout, **known: object) -> list[str]:
    found = data_endpoints(NODE, layout, **known)  # type: ignore[arg-type]  # as named by the test
    return [endpoint.removeprefix("https://").removesuffix(":2379") for endpoint in found]


@pytest.mark.parametrize(
    ("data", "witnesses", "voters", "expected"),
    [
        ({}, (), None, (OWN,)),
        ({"a-1": OWN, "b-2": OTHER}, (), None, (OWN, OTHER)),
        ({"b-2": OTHER}, (), {"a-1", "b-2"}, (OWN, OTHER)),
        ({"b-2": OTHER}, (), {"a-1", "c-4"}, (OWN,)),  # it was removed
        ({"b-2": OTHER}, (), (), (OWN,)),
        ({"b-2": OTHER, "c-4": THIRD}, (THIRD,), VOTERS | {"c-4"}, (OWN, OTHER)),
    ],
)
def test_data_nodes_that_vote_are_asked(
    data: dict[str, str],
    witnesses: tuple[str, ...],
    voters: set[str] | None,
    expected: tuple[str, ...],
) -> None:
    """A witness's address is never used, whatever the store lists there."""
    assert trusted_addresses(OWN, MemberAddresses(data, frozenset(witnesses)), voters) == expected


def test_the_configuration_says_who_holds_data(layout: Layout) -> None:
    """The record just read goes before the stored one, and that before the initial identity."""
    assert asked(layout) == [OWN, OTHER]  # the initial identity
    newer = config().with_replaced("b-2", msgspec.structs.replace(config().nodes[1], member="c-4"))
    keep_record(layout, config().reduced_to("a-1"))
    assert asked(layout) == [OWN]
    assert asked(layout, record=encode(newer)) == [OWN, OTHER]
    assert asked(layout, record=encode(newer), voters=VOTERS) == [OWN]
    assert asked(layout, record=b"{") == [OWN]


def test_what_members_announce_only_takes_somebody_away(layout: Layout) -> None:
    """A thief with a vote announces his own address as a data node's."""
    keep_record(layout, config())
    theirs = (member("a-1", 66), member("b-2", 66), member("w-3", 66), member("d-9", 66))
    save_kept(layout, kept(MajorityView(theirs, None, frozenset())))
    assert asked(layout) == [OWN, OTHER]
    save_kept(layout, kept(MajorityView(theirs[:1], None, frozenset())))
    assert asked(layout) == [OWN]


def test_a_node_that_is_made_counts_from_its_vote_on(layout: Layout) -> None:
    """The configuration names it only when it is ready."""
    keep_record(layout, config().reduced_to("a-1"))
    register(layout, {"c-4": THIRD})
    assert asked(layout, voters={"a-1"}) == [OWN]
    assert asked(layout, voters={"a-1", "c-4"}) == [OWN, THIRD]
    register(layout, {})
    assert asked(layout, voters={"a-1", "c-4"}) == [OWN]


def test_planned_nodes_count_as_they_join(layout: Layout) -> None:
    """In a manual deployment, both with their planned kind."""
    places = [(NodeKind.DATA, config().nodes[1], "b-2"), (NodeKind.WITNESS, config().nodes[2], "")]
    planned = tuple(
        PlannedNode(kind=kind, ha_ip=node.ha_ip, member=name) for kind, node, name in places
    )
    prepared = msgspec.structs.replace(config().reduced_to("a-1"), planned=planned)
    found = configured_addresses(encode(prepared))
    assert found == MemberAddresses({"a-1": OWN, "b-2": OTHER}, frozenset({THIRD}))
    assert asked(layout, record=encode(prepared), voters={"a-1", "b-2"}) == [OWN, OTHER]


def test_a_witness_asks_everybody(layout: Layout) -> None:
    """With its own account, which has few permissions."""
    save_kept(layout, kept())
    witness = msgspec.structs.replace(IDENTITY, kind="witness")
    assert known_endpoints(witness, layout) == [f"https://127.1.1.{at}:2379" for at in (1, 4, 5)]
