"""A public address that nobody holds, or for which another machine answers, is a fault. Pure.

That a node could not hold it after a failover is a warning.
"""

from collections.abc import Iterator

from openvcha.cluster.config import ClusterConfig, NodeConfig, address_text
from openvcha.cluster.findings.finding import Finding, finding
from openvcha.cluster.observing.observation import Observation
from openvcha.store.address_reports import AddressState, Holding


def address_faults(seen: Observation) -> Iterator[Finding]:
    """Return what is wrong with the public address; a node that has not reported causes nothing."""
    active = seen.active
    if active is None or active.report.address is None:
        return
    fault = address_fault(seen.config, active.config, active.report.address)
    if fault is not None:
        yield fault


def address_fault(config: ClusterConfig, active: NodeConfig, state: AddressState) -> Finding | None:
    """Return the fault that the report of the active node means; None if it holds the address."""
    if state.holding is Holding.HELD:
        return None
    address, name = public_address(config, active), active.name
    if state.holding is Holding.CONFLICT:
        where = ("address.conflict.recommendation", state.detail, address)
        return finding("address.conflict", address, state.detail, name, advice=where)
    if state.holding is Holding.CANNOT:
        advice = ("address.cannot.recommendation", name)
        return finding("address.cannot", address, name, state.detail, advice=advice)
    return finding("address.nobody", address, name, advice=("address.nobody.recommendation", name))


def address_obstacles(seen: Observation) -> Iterator[Finding]:
    """Return a warning for each node that would not be reached if it became the active one."""
    for node in seen.nodes:
        state = node.report.address
        if node is not seen.active and state and state.holding is Holding.CANNOT:
            name, address = node.config.name, public_address(seen.config, node.config)
            advice = ("address.passive.recommendation", address, name)
            yield finding("address.passive", name, address, state.detail, advice=advice)


def public_address(config: ClusterConfig, active: NodeConfig) -> str:
    """Return the public address while this node is the active one."""
    return address_text(active.failover_ip or config.management)
