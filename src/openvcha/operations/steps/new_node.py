"""The node that a task creates, as chosen by its check and stored in the task's record."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.structures import IpSpec
from openvcha.cluster import patroni_client
from openvcha.cluster.config import NodeConfig, NodeKind, address_text
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.infrastructure.interface import Placement
from openvcha.operations.context import Services
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import TaskContext

PASSIVE = "passive"
WITNESS = "witness"
ROLES = (PASSIVE, WITNESS)
"""The names under which a task's state stores its new nodes."""


class NewNode(msgspec.Struct, frozen=True, kw_only=True):
    """A new node. ``token`` makes its creation idempotent; ``vm`` is set once the VM exists.

    The VM of a node that an administrator creates is unknown here: ``vm`` is empty.
    ``public_interface`` is where it holds the public address; empty stands for the active's.
    """

    kind: NodeKind
    member: str
    token: str
    placement: Placement
    ha_ip: IpSpec
    failover_ip: IpSpec | None = None
    vm: str | None = None
    bios_uuid: str = ""
    public_interface: str = ""

    @property
    def ha_address(self) -> str:
        """Return the bare HA address."""
        return address_text(self.ha_ip)

    def configured(self) -> NodeConfig:
        """Return the node's entry in the cluster's configuration."""
        if self.vm is None:
            raise ValueError(f"node {self.member} has no VM yet")
        return NodeConfig(
            member=self.member,
            name=self.placement.name,
            kind=self.kind,
            vm=self.vm,
            bios_uuid=self.bios_uuid,
            ha_ip=self.ha_ip,
            failover_ip=self.failover_ip,
        )


def unmanaged_placement(name: str) -> Placement:
    """Return the placement of a node that is in no inventory."""
    return Placement(
        name=name,
        folder="",
        host="",
        resource_pool="",
        datastore="",
        ha_network="",
        management_network="",
    )


def member_name(name: str, token: str) -> str:
    """Return a member name that is unique per incarnation, yet recognisable."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{plain}-{hashlib.sha256(token.encode()).hexdigest()[:6]}"


def recall(ctx: TaskContext, role: str) -> NewNode:
    """Return the new node as stored. Raises KeyError before the check."""
    return msgspec.convert(ctx.state[role], NewNode)


def decided_node(task: TaskRecord, role: str) -> NewNode | None:
    """Return the node that the task has chosen; None before its first step."""
    return msgspec.convert(task.state[role], NewNode) if role in task.state else None


def created_members(state: Mapping[str, Any]) -> frozenset[str]:
    """Return the members of the new nodes in a task's state."""
    return frozenset(str(state[role]["member"]) for role in ROLES if role in state)


async def remember(ctx: TaskContext, role: str, node: NewNode) -> None:
    """Store the new node durably, before any step acts on it."""
    await ctx.remember(**{role: msgspec.to_builtins(node)})


async def committed(services: Services, ctx: TaskContext, role: str) -> bool:
    """Return whether the configuration names the node."""
    return (await services.observer.config()).node(recall(ctx, role).member) is not None


async def leads(services: Services, node: NewNode) -> bool:
    """Return whether the node holds the leader key: it may take over before the commit."""
    return await patroni_client.leader(services.store) == node.member


async def streams(services: Services, node: NewNode) -> bool:
    """Return whether the node streams. The active knows: a starting standby responds late."""
    try:
        active = await services.patroni.node(services.identity.ha_address)
    except PatroniUnreachable:
        return False
    return node.member in active.replication


async def in_service(services: Services, ctx: TaskContext, role: str) -> bool:
    """Return whether the cluster depends on the node: then only the commit is left to do.

    A resumed task checks every step again, although later steps may have deleted its traces. And a
    node that was able to take over may have done so: then it is ready in any case.
    """
    if role not in ctx.state:
        return False
    return await committed(services, ctx, role) or await leads(services, recall(ctx, role))


prepare(__name__)
