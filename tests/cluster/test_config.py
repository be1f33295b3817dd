"""Changes of the configuration are idempotent, and name each node once."""

import msgspec
import pytest
from tests.support.simulated.observations import ObservationBuilder, configured, ip

from openvcha.api.structures import ClusterMode, ConfigState
from openvcha.cluster.config import NodeKind
from openvcha.cluster.membership import choose_member
from openvcha.store.interface import Member
from openvcha.store.patroni.state import parse_sync


def test_replacing_puts_the_new_node_in_the_place_of_the_old(world: ObservationBuilder) -> None:
    """The order of nodes, which node1 and node2 follow, does not change."""
    new = configured("n-4", NodeKind.DATA, 4)
    config = world.seen.config.with_replaced("b-2", new)
    assert [node.member for node in config.nodes] == ["a-1", "n-4", "w-3"]


def test_replacing_twice_is_replacing_once(world: ObservationBuilder) -> None:
    """A resumed commit finds its own work and changes nothing."""
    new = configured("n-4", NodeKind.DATA, 4)
    once = world.seen.config.with_replaced("b-2", new)
    assert once.with_replaced("b-2", new) == once


def test_replacing_nobody_adds(world: ObservationBuilder) -> None:
    """A deployment adds nodes."""
    new = configured("n-4", NodeKind.DATA, 4)
    config = world.seen.config.with_replaced(None, new)
    assert [node.member for node in config.nodes] == ["a-1", "b-2", "w-3", "n-4"]


def test_the_passive_is_whoever_does_not_lead(world: ObservationBuilder) -> None:
    """Roles are not tied to nodes."""
    world.set(leader="b-2")
    assert world.seen.passive is not None
    assert world.seen.passive.config.member == "a-1"


def test_who_is_left_alone_serves_at_its_own_address(world: ObservationBuilder) -> None:
    """After a failover that is the passive's address; the change is idempotent."""
    nodes = list(world.seen.config.nodes)
    nodes[1] = msgspec.structs.replace(nodes[1], failover_ip=ip("127.83.1.20"))
    world.configure(nodes=tuple(nodes), mode=ClusterMode.MAINTENANCE)
    alone = world.seen.config.reduced_to("b-2")
    assert [node.member for node in alone.nodes] == ["b-2"]
    assert alone.management == ip("127.83.1.20")
    assert (alone.state, alone.deployment) == (ConfigState.NOTCONFIGURED, "NONE")
    assert alone.mode is ClusterMode.ENABLED
    assert alone.reduced_to("b-2") == alone


def test_nobody_is_left_alone_who_is_not_of_the_cluster(world: ObservationBuilder) -> None:
    """A mistake must not leave a configuration without a node."""
    with pytest.raises(LookupError):
        world.seen.config.reduced_to("x-9")


def test_an_unstarted_member_is_known_by_its_url_only() -> None:
    """A named member at the same URL is another incarnation, and must not be touched."""
    url = "https://127.83.2.12:2380"
    old = Member(1, "old-2", (url,), ())
    unstarted = Member(2, "", (url,), (), learner=True)
    assert choose_member([old], "new-2", url) is None
    assert choose_member([old, unstarted], "new-2", url) is unstarted


def test_sync_is_read_in_every_form_it_has() -> None:
    """No key, an empty key, no standby in sync, a standby in sync."""
    assert parse_sync(b"").standbys == frozenset()
    assert parse_sync(b'{"leader": null, "sync_standby": null}').leader is None
    found = parse_sync(b'{"leader": "a-1", "sync_standby": "b-2,c-3"}')
    assert found.standbys == {"b-2", "c-3"}
