"""A random walk over operations and losses of nodes, on a real lab, with its invariants.

OPENVCHA_WALK_MINUTES says how long it lasts; beyond 3 each run takes another path. A failure prints
the steps that led to it.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import booleans, sampled_from
from tests.support.lab.running_lab import RunningLab
from tests.support.lab.walk_world import Machine, World

pytestmark = [pytest.mark.engines, pytest.mark.soak]

MINUTES = float(os.environ.get("OPENVCHA_WALK_MINUTES", "3"))
STEPS = 6
LONG = 10_000
ROLES = ("ACTIVE", "PASSIVE", "WITNESS")
MODES = ("ENABLED", "MAINTENANCE", "DISABLED")
ALLOWED_WHEN_HEALTHY = {
    ("ENABLED", "DISABLED"),
    ("ENABLED", "MAINTENANCE"),
    ("DISABLED", "ENABLED"),
    ("MAINTENANCE", "ENABLED"),
    ("MAINTENANCE", "DISABLED"),
}
CLUSTER = "/vcenter/vcha/cluster"


class Walk(RuleBasedStateMachine):
    """Each example begins HEALTHY and ENABLED; what it broke is repaired at its end.

    Which steps may come next depends on `down` and `mode` alone, never on the lab: Hypothesis
    replays them. Once the time is up the remaining steps do nothing.
    """

    world: World
    ends: float
    steps: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.mode = "ENABLED"
        self.down = 0
        self.off: set[str] = set()
        # What begins after the end is an empty walk: Hypothesis's state machine does not stop
        # earlier.
        self.walks = time_is_left()

    # --- the steps

    @initialize()
    def begin(self) -> None:
        """Start from a healthy cluster."""
        if time_is_left():
            self.world.until(lambda: self.world.health() == "HEALTHY", "HEALTHY at the beginning")

    @rule()
    def write(self) -> None:
        """Wait until the writer advances, where a node takes writes."""
        if time_is_left() and self._serves():
            before = len(self.world.ledger.acknowledged)
            self.world.until(lambda: len(self.world.ledger.acknowledged) > before + 10, "writes")
            Walk.steps += 1

    @precondition(lambda self: self.down < 2)
    @rule(role=sampled_from(ROLES))
    def kill(self, role: str) -> None:
        """Cut a node's power, or another's when that one is off; two may be off at a time."""
        self.down += 1
        if time_is_left():
            on = sorted(machine.name for machine in self.world.machines() if machine.on)
            wished = self.world.roles().get(role)
            name = wished if wished in on else on[0]
            self.world.kill(name)
            self.off.add(name)
            Walk.steps += 1

    @precondition(lambda self: self.down)
    @rule()
    def start(self) -> None:
        """Power on what is off: it rejoins by itself."""
        self.down = 0
        if time_is_left():
            self._all_on()
            Walk.steps += 1

    @precondition(lambda self: not self.down and self.mode == "ENABLED")
    @rule(role=sampled_from(("passive", "witness")), destroyed=booleans())
    def redeploy(self, role: str, destroyed: bool) -> None:
        """Lose a node, with or without its data, and replace it over the API."""
        if not time_is_left():
            return
        self.world.running.vcha("lab", "destroy" if destroyed else "kill", role)
        self.world.until(lambda: self.world.health() == "DEGRADED", "the loss is noticed")
        placement = {"name": f"{role}-{Walk.steps}", "folder": "group-v3"}
        path = f"{CLUSTER}/{role}?action=redeploy&vmw-task=true"
        reply = self.world.call("POST", path, {"placement": placement})
        assert self.world.task(reply) == "SUCCEEDED"
        Walk.steps += 1

    @rule(planned=booleans())
    def fail_over(self, planned: bool) -> None:
        """Fail over; refused exactly when a node is missing or the mode forbids it."""
        before = self.world.roles() if time_is_left() else {}
        if "ACTIVE" not in before:
            return
        path = f"{CLUSTER}?action=failover&vmw-task=true"
        reply = self.world.call("POST", path, {"planned": planned})
        if self.down or self.mode == "DISABLED":
            assert reply.status_code in {400, 503}, reply.text
            return
        assert self.world.task(reply) == "SUCCEEDED"
        assert self.world.roles()["ACTIVE"] == before["PASSIVE"]
        Walk.steps += 1

    @precondition(lambda self: not self.down)
    @rule(mode=sampled_from(MODES))
    def set_mode(self, mode: str) -> None:
        """Change the mode, as far as the table allows it."""
        allowed = (self.mode, mode) in ALLOWED_WHEN_HEALTHY
        if time_is_left():
            reply = self.world.call("PUT", f"{CLUSTER}/mode?vmw-task=true", {"mode": mode})
            if allowed:
                assert self.world.task(reply) == "SUCCEEDED"
            else:
                assert reply.status_code == 400, reply.text
            Walk.steps += 1
        self.mode = mode if allowed else self.mode

    # --- the invariants

    @invariant()
    def nothing_is_lost(self) -> None:
        """Check that every acknowledged row is there, whenever a node can be asked."""
        assert not self.walks or not self.world.ledger.lost()

    @invariant()
    def one_node_takes_writes(self) -> None:
        """Check that at most one PostgreSQL acknowledges a write over a direct connection."""
        if not self.walks:
            return
        takers = [machine.name for machine in self.world.machines() if machine.writable()]
        assert len(takers) <= 1, takers

    @invariant()
    def the_api_tells_the_truth(self) -> None:
        """Check that `cluster.get` shows the actual state within a bounded time."""
        if time_is_left():
            self.world.until(self._true, "cluster.get tells the truth")

    def teardown(self) -> None:
        """Restore everything, and count once more."""
        if not self.walks:
            return
        self._all_on()
        if (self.world.cluster() or {})["mode"] != "ENABLED":
            reply = self.world.call("PUT", f"{CLUSTER}/mode?vmw-task=true", {"mode": "ENABLED"})
            assert self.world.task(reply) == "SUCCEEDED"
        self.world.until(lambda: self.world.health() == "HEALTHY", "HEALTHY at the end")
        assert self.world.ledger.lost() == set()

    def _all_on(self) -> None:
        self.world.power_on()
        self.off.clear()
        self.world.until(lambda: self.world.health() == "HEALTHY", "HEALTHY with all nodes on")

    def _serves(self) -> bool:
        """Return whether writes are due: an active that is on, with a quorum or a mode without."""
        alone = len(self.off) > 1 and self.mode == "ENABLED"
        active = self.world.roles().get("ACTIVE")
        return not alone and active is not None and active not in self.off

    def _true(self) -> bool:
        info = self.world.cluster()
        machines = {machine.name: machine for machine in self.world.machines()}
        if info is None:  # without a quorum only the other modes let the active go on alone
            return self.mode != "ENABLED" or not any(m.writable() for m in machines.values())
        if info["mode"] != self.mode or info["config_state"] != "CONFIGURED":
            return False
        if (info["health_state"] == "HEALTHY") != (not self.off):
            return False
        return all(
            self._node_is_true(info[key]["runtime"], machines)
            for key in ("node1", "node2", "witness")
        )

    @staticmethod
    def _node_is_true(runtime: dict[str, Any], machines: dict[str, Machine]) -> bool:
        if "placement" not in runtime:
            return bool(runtime["state"] == "DOWN")
        machine = machines[runtime["placement"]["vm_name"]]
        leads = runtime.get("role") == "ACTIVE"
        return (runtime["state"] == "UP") == machine.on and machine.writable() == leads


def time_is_left() -> bool:
    return time.monotonic() < Walk.ends


@pytest.fixture
def world(running: RunningLab) -> Iterator[World]:
    """Yield a lab with a writer that never stops."""
    found = World(running)
    found.ledger.begin()
    yield found
    found.ledger.stop()


def test_a_random_walk_loses_nothing(world: World) -> None:
    """Operations and losses in any order: no acknowledged row is lost, one node takes writes."""
    Walk.world = world
    Walk.ends = time.monotonic() + MINUTES * 60
    Walk.steps = 0
    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=LONG if MINUTES > 3 else 12,
            stateful_step_count=STEPS,
            deadline=None,
            # The short walk is the same each time: a change is judged by what it alters.
            derandomize=MINUTES <= 3,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    assert Walk.steps >= 5, "too few steps to prove anything"
    assert len(world.ledger.acknowledged) > 200, "too little was written to prove anything"
