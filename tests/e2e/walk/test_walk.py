"""A random walk over operations and losses of nodes, on a real lab, with its invariants.

OPENVCHA_WALK_MINUTES says how long it lasts; beyond 3 each run takes another path, or that of
OPENVCHA_WALK_SEED. A failure shows the seed and the steps that led to it.
"""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from random import Random, SystemRandom
from typing import Any

import pytest
from tests.support.lab.running_lab import RunningLab
from tests.support.lab.walk_world import LabProbe, ProbedNode

pytestmark = [pytest.mark.engines, pytest.mark.soak]

MINUTES = float(os.environ.get("OPENVCHA_WALK_MINUTES", "3"))
STEPS = 6
ENOUGH_STEPS, ENOUGH_ROWS = 5, 200
"""Otherwise a walk proves little, however long a busy machine takes for it."""
VARIED = 1757
"""A seed whose first two walks take steps of all kinds."""
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
Step = Callable[[], None]


class Walk:
    """A few steps from a HEALTHY and ENABLED cluster; what they broke is repaired at the end.

    Which steps may come next depends on `down` and `mode`. ``taken`` is the list of its steps.
    """

    def __init__(self, world: LabProbe, random: Random) -> None:
        self.world = world
        self.random = random
        self.mode = "ENABLED"
        self.down = 0
        self.off: set[str] = set()
        self.taken: list[str] = []

    def run(self, more: Callable[[], bool]) -> None:
        """Take the steps, as long as ``more`` are wanted; check after each."""
        self.world.until(lambda: self.world.health() == "HEALTHY", "HEALTHY at the beginning")
        self.check()
        while len(self.taken) < STEPS and more():
            step = self.random.choice(self.possible())
            self.taken.append(f"{step.func.__name__}{step.args}")
            step()
            self.check()
        self.repair()

    def possible(self) -> "list[partial[None]]":
        """Return one step of each kind that may come now, with random arguments."""
        choose = self.random.choice
        found = [partial(self.write), partial(self.fail_over, choose((True, False)))]
        if self.down < 2:
            found.append(partial(self.kill, choose(ROLES)))
        if self.down:
            found.append(partial(self.start))
        else:
            found.append(partial(self.set_mode, choose(MODES)))
        if not self.down and self.mode == "ENABLED":
            role, destroyed = choose(("passive", "witness")), choose((True, False))
            found.append(partial(self.redeploy, role, destroyed))
        return found

    # --- the steps

    def write(self) -> None:
        """Wait until the writer advances, where a node takes writes."""
        if self._serves():
            before = len(self.world.ledger.acknowledged)
            self.world.until(lambda: len(self.world.ledger.acknowledged) > before + 10, "writes")

    def kill(self, role: str) -> None:
        """Cut a node's power, or another's when that one is off; two may be off at a time."""
        self.down += 1
        on = sorted(machine.name for machine in self.world.machines() if machine.on)
        wished = self.world.roles().get(role)
        name = wished if wished in on else on[0]
        self.world.kill(name)
        self.off.add(name)

    def start(self) -> None:
        """Power on what is off: it rejoins by itself."""
        self.down = 0
        self._all_on()

    def redeploy(self, role: str, destroyed: bool) -> None:
        """Lose a node, with or without its data, and replace it over the API."""
        self.world.running.vcha("lab", "destroy" if destroyed else "kill", role)
        self.world.until(lambda: self.world.health() == "DEGRADED", "the loss is noticed")
        placement = {"name": f"{role}-{time.monotonic_ns()}", "folder": "group-v3"}
        path = f"{CLUSTER}/{role}?action=redeploy&vmw-task=true"
        reply = self.world.call("POST", path, {"placement": placement})
        assert self.world.task(reply) == "SUCCEEDED"

    def fail_over(self, planned: bool) -> None:
        """Fail over; refused exactly when a node is missing or the mode forbids it."""
        before = self.world.roles()
        if "ACTIVE" not in before:
            return
        path = f"{CLUSTER}?action=failover&vmw-task=true"
        reply = self.world.call("POST", path, {"planned": planned})
        if self.down or self.mode == "DISABLED":
            assert reply.status_code in {400, 503}, reply.text
            return
        assert self.world.task(reply) == "SUCCEEDED"
        passive = before["PASSIVE"]
        self.world.until(lambda: self.world.roles().get("ACTIVE") == passive, "the passive leads")

    def set_mode(self, mode: str) -> None:
        """Change the mode, as far as the table allows it."""
        allowed = (self.mode, mode) in ALLOWED_WHEN_HEALTHY
        reply = self.world.call("PUT", f"{CLUSTER}/mode?vmw-task=true", {"mode": mode})
        if allowed:
            assert self.world.task(reply) == "SUCCEEDED"
            self.mode = mode
        else:
            assert reply.status_code == 400, reply.text

    # --- the invariants

    def check(self) -> None:
        """Check the invariants that hold after each step; lost rows once a node can be asked."""
        assert not self.world.ledger.lost(), "acknowledged rows are lost"
        takers = self.world.takers()
        assert len(takers) <= 1, takers
        self.world.until(self._true, "cluster.get tells the truth")

    def repair(self) -> None:
        """Restore everything, and count the rows once more."""
        self._all_on()
        if (self.world.cluster() or {})["mode"] != "ENABLED":
            reply = self.world.call("PUT", f"{CLUSTER}/mode?vmw-task=true", {"mode": "ENABLED"})
            assert self.world.task(reply) == "SUCCEEDED"
        self.world.until(lambda: self.world.health() == "HEALTHY", "HEALTHY at the end")
        assert self.world.ledger.lost_at_last() == set()

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
    def _node_is_true(runtime: dict[str, Any], machines: dict[str, ProbedNode]) -> bool:
        if "placement" not in runtime:
            return bool(runtime["state"] == "DOWN")
        machine = machines[runtime["placement"]["vm_name"]]
        leads = runtime.get("role") == "ACTIVE"
        return (runtime["state"] == "UP") == machine.on and machine.writable() == leads


def new_seed() -> int:
    """Return the seed: the short walk is the same each time, so a change is judged by it."""
    drawn = SystemRandom().randrange(1 << 32) if MINUTES > 3 else VARIED
    return int(os.environ.get("OPENVCHA_WALK_SEED", drawn))


@pytest.fixture
def world(running: RunningLab) -> Iterator[LabProbe]:
    """Yield a lab with a writer that never stops."""
    found = LabProbe(running)
    found.ledger.begin()
    yield found
    found.ledger.stop()


def test_a_random_walk_loses_nothing(world: LabProbe) -> None:
    """Operations and losses in any order: no acknowledged row is lost, one node takes writes."""
    seed = new_seed()
    random = Random(seed)
    ends = time.monotonic() + MINUTES * 60
    walks: list[Walk] = []

    def more() -> bool:
        steps = sum(len(walk.taken) for walk in walks)
        return steps < ENOUGH_STEPS or time.monotonic() < ends

    while more():
        walk = Walk(world, random)
        walks.append(walk)
        try:
            walk.run(more)
        except BaseException as error:
            error.add_note(f"in the walk {', '.join(walk.taken)} (OPENVCHA_WALK_SEED={seed})")
            raise
    world.until(lambda: len(world.ledger.acknowledged) > ENOUGH_ROWS, "enough rows")
