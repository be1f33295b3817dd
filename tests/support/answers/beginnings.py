"""The initial states of a cluster on a stage, and the requests made of it, as plain JSON."""

import asyncio
from typing import Any

from msgspec.structs import replace
from tests.support.simulated.scenes import CALLER, NEW, NEW_WITNESS, ClusterScenario

from openvcha.api.codec.decode import decode_rest
from openvcha.api.structures import DeploySpec, JoinRole, JoinTokenSpec
from openvcha.node.identity import HOSTS, IDENTITY, encode_identity
from openvcha.operations.failover import fail_over
from openvcha.operations.joining.manual_join import issue_token

ADDRESSES = {"ACTIVE": "127.83.2.11", "PASSIVE": "127.83.2.12", "WITNESS": "127.83.2.13"}


def address(role: str) -> dict[str, Any]:
    """Return the IpSpec of a role's HA address."""
    return {"ip_family": "IPV4", "ipv4": {"address": ADDRESSES[role], "prefix": 24}}


def place(name: str = NEW) -> dict[str, str]:
    """Return a placement in the default folder."""
    return {"name": name, "folder": "group-v3"}


def deploy_spec(*, manual: bool = False) -> dict[str, Any]:
    """Return the specification of a deployment, AUTO or MANUAL."""
    places: list[dict[str, Any]] = [{"placement": place()}, {"placement": place(NEW_WITNESS)}]
    passive, witness = [{}, {}] if manual else places
    return {
        "deployment": "MANUAL" if manual else "AUTO",
        "active": {"ha_ip": address("ACTIVE")},
        "passive": {**passive, "ha_ip": address("PASSIVE")},
        "witness": {**witness, "ha_ip": address("WITNESS")},
    }


async def single(scene: ClusterScenario) -> None:
    """Begin with one active node and no cluster."""
    await scene.single()


async def on_hosts(scene: ClusterScenario) -> None:
    """Begin with one active node of a cluster that keeps the inventory of its hosts."""
    await scene.single()
    (node,) = scene.world.machines.values()
    identity = replace(node.identity, infrastructure={"kind": HOSTS})
    node.files[IDENTITY] = encode_identity(identity)


async def healthy(scene: ClusterScenario) -> None:
    """Begin with three nodes, in sync."""
    await scene.healthy()


async def passive_lost(scene: ClusterScenario) -> None:
    """Cut the passive's power."""
    await scene.cluster()


async def witness_lost(scene: ClusterScenario) -> None:
    """Cut the witness's power."""
    await scene.cluster("vcha-3")


async def prepared(scene: ClusterScenario) -> None:
    """Begin a manual deployment that waits for both nodes."""
    await scene.single()
    await scene.deploy(decode_rest(DeploySpec, deploy_spec(manual=True)))
    await scene.carry()


async def failing_over(scene: ClusterScenario) -> None:
    """Begin a failover that is stuck in the step that must not be interrupted."""
    await scene.healthy()
    scene.world.faults.add("refuses")
    scene.task = await fail_over(scene.process().services, CALLER, planned=True)
    carrying = await scene.until("switch")
    assert isinstance(carrying, asyncio.Task)


async def given_up(scene: ClusterScenario) -> None:
    """Begin with a manual deployment that was undeployed before its join token was used."""
    await prepared(scene)
    scene.token = await ask_token(scene)
    await scene.undeploy()
    await scene.carry()


async def ask_token(scene: ClusterScenario) -> str:
    """Request the token with which the passive may join."""
    wanted = JoinTokenSpec(role=JoinRole.PASSIVE)
    return (await issue_token(scene.process().services, CALLER, wanted)).token.reveal()
