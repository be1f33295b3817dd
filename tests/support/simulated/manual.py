"""Nodes that a person creates, in the simulated cluster."""

import asyncio
from typing import Any

from msgspec.structs import replace
from tests.support.simulated.crash_point import CrashPoint
from tests.support.simulated.observations import ip
from tests.support.simulated.scenes import CALLER, NEW, NEW_WITNESS, ClusterScenario, placement

from openvcha.api.errors import ApiError
from openvcha.api.secret import Secret
from openvcha.api.structures import (
    ActiveSpec,
    DeploySpec,
    DeployType,
    JoinInfo,
    JoinRole,
    JoinSpec,
    JoinTokenSpec,
    PassiveSpec,
    TaskStatus,
    WitnessSpec,
)
from openvcha.node.security.certificates import KeyPair, signing_request
from openvcha.operations.joining.join import join
from openvcha.operations.joining.manual_join import issue_token
from openvcha.store import keys

ADDRESSES = {JoinRole.PASSIVE: "127.83.2.12", JoinRole.WITNESS: "127.83.2.13"}


NAMES = {JoinRole.PASSIVE: NEW, JoinRole.WITNESS: NEW_WITNESS}


ROLES = tuple(JoinRole)


PREFIX = "com.vmware.vcenter.vcha."


def spec(passive: bool = False, witness: bool = False) -> DeploySpec:
    """Return the specification of a MANUAL deployment; each flag adds a placement."""
    return DeploySpec(
        deployment=DeployType.MANUAL,
        active=ActiveSpec(ha_ip=ip("127.83.2.11")),
        passive=PassiveSpec(
            placement=placement() if passive else None, ha_ip=ip(ADDRESSES[JoinRole.PASSIVE])
        ),
        witness=WitnessSpec(
            placement=placement(NEW_WITNESS) if witness else None,
            ha_ip=ip(ADDRESSES[JoinRole.WITNESS]),
        ),
    )


class Hand:
    """A person who creates one node: requests a token, joins it, starts it."""

    def __init__(self, scene: ClusterScenario, role: JoinRole, name: str = "") -> None:
        self.scene = scene
        self.role = role
        self.name = name or NAMES[role]
        self.key: KeyPair = signing_request(ADDRESSES[role])
        self.token = Secret("")

    async def ask(self) -> None:
        """Request a join token for the role."""
        services = self.scene.process().services
        self.token = (await issue_token(services, CALLER, JoinTokenSpec(role=self.role))).token

    def wish(self, **changes: Any) -> JoinSpec:
        """Return the node's join request; ``changes`` are fields of it."""
        return replace(
            JoinSpec(
                token=self.token,
                role=self.role,
                name=self.name,
                ha_address=ADDRESSES[self.role],
                certificate_request=self.key.certificate.decode(),
            ),
            **changes,
        )

    async def call(self, **changes: Any) -> JoinInfo:
        """Retry while a lost node must stay silent for long enough, as the command does."""
        services, wish = self.scene.process().services, self.wish(**changes)
        for _ in range(3):
            try:
                info = await join(services, CALLER, wish)
            except ApiError as error:
                if [text.id for text in error.messages] != [f"{PREFIX}join.not.yet"]:
                    raise
            else:
                self.scene.task = info.task
                return info
        raise AssertionError("it was never let in")

    def start(self, info: JoinInfo) -> str:
        """Write the received files and start the node; return its VM's id."""
        files = {path: text.reveal().encode() for path, text in info.files.items()}
        return self.scene.world.join(files)

    async def come(self, life: CrashPoint | None = None) -> str:
        """Join while a process carries tasks out, and start."""
        carrying = asyncio.create_task(self.carried(life))
        info = await self.call()
        machine = self.start(info)
        await carrying
        return machine

    async def carried(self, life: CrashPoint | None = None) -> None:
        """Carry out the task that this call starts."""
        async with asyncio.timeout(60):
            while await self.scene.world.store.get(keys.OPERATION) is None:  # noqa: ASYNC110 - the journal's
                await asyncio.sleep(0.01)
        running = await self.scene.journal.running()
        assert running is not None
        self.scene.task = running.id
        await self.scene.carry(self.scene.process(life))
        if life is not None:
            await self.scene.carry()


async def prepared(scene: ClusterScenario) -> None:
    """Prepare a MANUAL deployment, up to the end of its task."""
    await scene.single()
    await scene.deploy(spec())
    await scene.carry()
    await scene.validate(TaskStatus.SUCCEEDED)


async def complete(scene: ClusterScenario, witness: str = NEW_WITNESS) -> dict[JoinRole, str]:
    """Prepare a deployment and let both nodes join; return their VMs' ids by role."""
    await prepared(scene)
    machines = {}
    for role in ROLES:
        hand = Hand(scene, role, witness if role is JoinRole.WITNESS else "")
        await hand.ask()
        machines[role] = await hand.come()
    return machines
