"""Transient failures at the start of each step of each plan: waited for, named, survived."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.simulated.begun import (
    Begin,
    deploy,
    disable,
    enable,
    forced,
    planned,
    prepare,
    redeploy,
    redeploy_witness,
    undeploy,
)
from tests.support.simulated.clock import SIMULATED
from tests.support.simulated.redeploy import reasons
from tests.support.simulated.scenes import ClusterScenario

from openvcha.api.structures import TaskStatus
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import Step, TaskContext

pytestmark = SIMULATED

LASTS = 12.0
LONG = 1500.0


PLANS: dict[Begin, tuple[str, ...]] = {
    redeploy: (
        "check",
        "fence",
        "clone.passive",
        "copy.passive",
        "join.passive",
        "commit",
        "address",
    ),
    redeploy_witness: ("check", "fence", "clone.witness", "commit", "address"),
    deploy: (
        "check",
        "clone.passive",
        "clone.witness",
        "copy.passive",
        "join.passive",
        "commit",
        "address",
    ),
    prepare: ("prepare",),
    undeploy: ("check", "votes", "release", "disarm", "renew", "alone"),
    planned: ("check", "prepare", "switch", "address", "settle"),
    forced: ("check", "switch", "address", "settle"),
    disable: ("check", "pause.on", "alone.on", "detached.on", "stop", "mode"),
    enable: ("check", "alone.off", "detached.off", "sync", "pause.off", "mode"),
}
TROUBLES = ("no leader", "no quorum", "patroni silent", "infrastructure busy")
EACH = [(plan, step) for plan, steps in PLANS.items() for step in steps]
SWEPT = [
    pytest.param(
        *at,
        fault,
        marks=[] if number % len(TROUBLES) == which else pytest.mark.soak,
        id=f"{at[0].__name__}-{at[1]}-{fault}",
    )
    for number, at in enumerate(EACH)
    for which, fault in enumerate(TROUBLES)
]
"""Each step with each trouble; by default each step with one, and the next step with another."""


class Troubled(Step):
    """A step that runs something else the first time it begins."""

    def __init__(self, inner: Step, happens: Callable[[], None]) -> None:
        self._inner = inner
        self._happens = happens
        self.name, self.weight, self.cancelable = inner.name, inner.weight, inner.cancelable
        self.patience, self.limit = inner.patience, inner.limit

    async def done(self, ctx: TaskContext) -> bool:
        self._happens()
        return await self._inner.done(ctx)

    async def act(self, ctx: TaskContext) -> None:
        await self._inner.act(ctx)

    async def undo(self, ctx: TaskContext) -> None:
        await self._inner.undo(ctx)


class Trouble:
    """A failure that starts when a step begins, once, for some time."""

    def __init__(self, scene: ClusterScenario, step: str, fault: str, lasts: float) -> None:
        self._scene = scene
        self._fault = fault
        self._lasts = lasts
        self.met = False
        scene.wrap = lambda each: Troubled(each, self._happen) if each.name == step else each

    def _happen(self) -> None:
        if not self.met:
            self.met = True
            faults = self._scene.world.faults
            faults.add(self._fault)
            asyncio.get_running_loop().call_later(self._lasts, faults.discard, self._fault)


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits: ten minutes are thousands of polls, also in a simulated world."""
    monkeypatch.setattr("openvcha.operations.steps.streaming.STREAMING_SECONDS", 40.0)
    monkeypatch.setattr("openvcha.operations.mode.SYNC_SECONDS", 40.0)
    monkeypatch.setattr("openvcha.operations.steps.commit.ACTIVE_SECONDS", 40.0)
    monkeypatch.setattr("openvcha.operations.steps.leaving.undeploy_steps.ACTIVE_SECONDS", 40.0)


async def carried(scene: ClusterScenario) -> TaskRecord:
    async with asyncio.timeout(LONG):
        await scene.carry_along()
    return await scene.record()


@pytest.mark.parametrize(("begin", "step", "fault"), SWEPT)
async def test_what_passes_ends_no_task(
    scene: ClusterScenario, begin: Begin, step: str, fault: str
) -> None:
    """Twelve seconds without a leader, store, Patroni or infrastructure: the task goes on."""
    await begin(scene)
    trouble = Trouble(scene, step, fault, LASTS)
    record = await carried(scene)
    assert trouble.met
    assert record.status is TaskStatus.SUCCEEDED, record.error
    assert scene.world.violations == []


ENDS: dict[tuple[Begin, str], dict[str, str]] = {
    (redeploy, "check"): {"no leader": "no.active", "infrastructure busy": "infrastructure.none"},
    (redeploy, "fence"): {"no leader": "no.active", "infrastructure busy": "infrastructure.none"},
    (redeploy, "clone.passive"): {"infrastructure busy": "infrastructure.none"},
    (redeploy_witness, "fence"): {"no leader": "no.active"},
    (deploy, "check"): {"no leader": "no.active", "infrastructure busy": "infrastructure.none"},
    (deploy, "clone.witness"): {"infrastructure busy": "infrastructure.none"},
    (prepare, "prepare"): {"no leader": "no.active", "infrastructure busy": "infrastructure.none"},
    (undeploy, "check"): {"no leader": "no.active"},
    (undeploy, "votes"): {"no leader": "no.active"},
    (undeploy, "release"): {"patroni silent": "progress.release"},
    (planned, "check"): {"no leader": "no.active"},
    (planned, "switch"): {"no leader": "progress.failover.switch"},
    (disable, "check"): {"no leader": "no.active"},
    (disable, "pause.on"): {"no leader": "progress.mode"},
    (enable, "sync"): {"patroni silent": "progress.mode.sync"},
}
LASTING = [(*at, fault, reason) for at, found in ENDS.items() for fault, reason in found.items()]


@pytest.mark.parametrize(
    ("begin", "step", "fault", "reason"),
    LASTING,
    ids=[f"{begin.__name__}-{step}-{fault}" for begin, step, fault, _ in LASTING],
)
async def test_what_does_not_pass_ends_it_with_the_reason(
    scene: ClusterScenario, begin: Begin, step: str, fault: str, reason: str
) -> None:
    """At a deadline; until then the task shows the reason."""
    await begin(scene)
    Trouble(scene, step, fault, 10 * LONG)
    began = asyncio.get_running_loop().time()
    shown = asyncio.create_task(_shown(scene))
    carrying = asyncio.create_task(scene.carry(), name="carry")
    async with asyncio.timeout(LONG):
        while (await scene.record()).error is None:  # noqa: ASYNC110 - the journal's state
            await asyncio.sleep(0.5)
    assert asyncio.get_running_loop().time() - began < 200
    # What was half done is undone once the failure is over.
    scene.world.faults.discard(fault)
    await carrying
    record = await scene.record()
    assert record.status is TaskStatus.FAILED
    assert reason in await reasons(scene)
    assert reason in await shown


async def _shown(scene: ClusterScenario) -> set[str]:
    found: set[str] = set()
    async for record in scene.journal.watch(scene.task):
        found.add(_id(record))
    return found


def _id(record: Any) -> str:
    return str(record.progress.message.id).removeprefix("com.vmware.vcenter.vcha.")
