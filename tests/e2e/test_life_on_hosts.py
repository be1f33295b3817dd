"""The life of a cluster over hosts: each has its own network, processes, files and SSH server."""

from collections.abc import Iterator
from functools import partial

import pytest
from tests.support.hosts import plan
from tests.support.hosts.cluster import AWAY, NODES, HostsCluster, cluster_over_hosts, start
from tests.support.waiting import until

from openvcha.infrastructure.hosts.orders import DATASTORE_MARK

pytestmark = pytest.mark.engines
OWED_SECONDS = 120.0


@pytest.fixture
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsCluster]:
    """Yield a first node, and two hosts for the others."""
    with cluster_over_hosts(tmp_path_factory.mktemp("three"), 3) as made:
        yield made


@pytest.fixture
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsCluster]:
    """Yield a first node, two hosts for the others, and a spare one."""
    with cluster_over_hosts(tmp_path_factory.mktemp("four"), 4) as made:
        yield made


def no_node_processes(cluster: HostsCluster, number: int) -> bool:
    """Return whether no process of a host has to do with a node."""
    return f"{NODES}/" not in cluster.hosts[number].run("ps", "-e", "-ww", "-o", "args=")


def directories(cluster: HostsCluster, number: int) -> list[str]:
    """Return the names in a host's datastore, without the mark that it is one."""
    found = cluster.hosts[number].run("ls", "-A", NODES).split()
    return [name for name in found if name != DATASTORE_MARK]


def test_a_cluster_is_deployed_and_undeployed(three: HostsCluster) -> None:
    """Two hosts get their nodes by SSH; afterwards nothing is left of them there."""
    three.deploy(passive=2, witness=3)
    three.until_state("HEALTHY")
    assert (three.name_of("PASSIVE"), three.name_of("WITNESS")) == ("passive", "witness")
    with three.writer() as writer:
        three.undeploy()
        assert writer.missing() == set()
    for number in (2, 3):
        until(partial(no_node_processes, three, number), OWED_SECONDS)
        assert directories(three, number) == []


@pytest.mark.soak
def test_a_host_is_lost_and_its_node_replaced_on_a_spare(four: HostsCluster) -> None:
    """It comes back with the old node running: that does not serve, and is deleted."""
    four.deploy(passive=2, witness=3)
    four.until_state("HEALTHY")
    with four.writer() as writer:
        four.hosts[2].power_off()
        four.until_state("DEGRADED")
        told = four.redeploy_passive(4, "spare")
        assert "passive" in told, "the task names what it has left"
        assert four.name_of("PASSIVE") == "spare"
        assert any("passive" in text for text in four.warnings())
        four.hosts[2].power_on()
        start(four.hosts[2], f"{NODES}/passive")
        until(lambda: "passive" not in directories(four, 2), OWED_SECONDS, pause=0.5)
        until(lambda: no_node_processes(four, 2), OWED_SECONDS)
        four.until_state("HEALTHY")
        assert four.deciding() == ({"vcha-1", "spare", "witness"}, {"spare"})
        assert not four.holds(2)
        assert writer.missing() == set()


@pytest.mark.soak
def test_a_cable_that_is_cut_and_healed(three: HostsCluster) -> None:
    """The passive's HA cable, then its management cable: the cluster is HEALTHY again by itself."""
    three.deploy(passive=2, witness=3)
    three.until_state("HEALTHY")
    with three.writer() as writer:
        three.hosts[2].cut("ha")
        three.until_state("DEGRADED")
        three.hosts[2].heal("ha")
        three.until_state("HEALTHY")
        three.hosts[2].cut("mgmt")
        # Nodes need the HA network only; this one merely cannot be managed.
        until(
            lambda: "NOT_RESPONDING" in str(three.client.vcenter.Host.list()),
            OWED_SECONDS,
            pause=0.5,
            absent=AWAY,
        )
        three.hosts[2].heal("mgmt")
        three.until_state("HEALTHY")
        assert writer.missing() == set()


@pytest.mark.soak
@pytest.mark.parametrize(
    "families", [(plan.IPV6,), (plan.IPV4, plan.IPV6)], ids=["IPv6 only", "both, by SSH over IPv4"]
)
def test_a_cluster_of_ipv6(
    tmp_path_factory: pytest.TempPathFactory, families: tuple[plan.Subnets, ...]
) -> None:
    """Deployed and repaired: all addresses of its nodes, and the public one, are of IPv6."""
    with cluster_over_hosts(tmp_path_factory.mktemp("ipv6"), 4, families) as cluster:
        cluster.deploy(passive=2, witness=3)
        cluster.until_state("HEALTHY")
        with cluster.writer() as writer:
            cluster.hosts[2].power_off()
            cluster.until_state("DEGRADED")
            cluster.redeploy_passive(4, "spare")
            assert cluster.name_of("PASSIVE") == "spare"
            assert writer.missing() == set()


@pytest.mark.soak
def test_a_planned_failover_moves_the_public_address(three: HostsCluster) -> None:
    """To the host of the deployed passive, and no acknowledged row is lost."""
    three.deploy(passive=2, witness=3)
    three.let_in(2, f"{NODES}/passive")
    three.until_state("HEALTHY")
    assert (three.holds(1), three.holds(2)) == (True, False)
    with three.writer() as writer:
        three.failover()
        assert three.holds(2)
        until(lambda: not three.holds(1), OWED_SECONDS)
        three.until_state("HEALTHY")
        assert three.name_of("ACTIVE") == "passive"
        assert writer.missing() == set()
