"""Labs for tests, with SIMULATED commands and a SIMULATED API.

Whatever fails, no lab goes on running; and no single look at a cluster decides a test.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.lab import running_lab
from tests.support.lab.running_lab import RunningLab, lab_up


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the commands that were run; ``lab up`` fails."""
    run: list[list[str]] = []

    def vcha(arguments: Sequence[str], **_: Any) -> None:
        run.append(list(arguments))
        if "up" in arguments:
            raise AssertionError("the lab does not come up")

    monkeypatch.setattr(running_lab, "run_vcha", vcha)
    return run


def test_a_lab_that_does_not_come_up_is_deleted(commands: list[list[str]], tmp_path: Path) -> None:
    """Its nodes may run already: they would keep addresses and processors from every other test."""
    with pytest.raises(AssertionError, match="does not come up"), lab_up(tmp_path, name="other"):
        pass
    assert [command[:2] for command in commands] == [["lab", "up"], ["lab", "reset"]]
    assert all(command[-4:-2] == ["--name", "other"] for command in commands)


class Cluster:
    """A SIMULATED API of a cluster that is not HEALTHY for its first reads."""

    def __init__(
        self,
        *states: str,
        refusals: int = 0,
        ends: str = "SUCCEEDED",
        config_state: str = "CONFIGURED",
    ) -> None:
        self.states = list(states)
        self.config_state = config_state
        self.refusals = refusals
        self.ends = ends
        self.redeployed = 0

    def cluster(self, *, partial: bool) -> dict[str, Any]:
        """Return the next state; the last one remains. No node serves in the state ``503``."""
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        assert state != "503"
        return {"config_state": self.config_state, "health_state": state, "partial": partial}

    def redeploy(self, spec: dict[str, Any]) -> str:
        """Refuse the first calls, as while the cluster is recovering."""
        assert spec["placement"]["name"] == "new"
        assert self.refusals <= 0, self.fewer()
        self.redeployed += 1
        return "task"

    def fewer(self) -> str:
        """Count a refusal."""
        self.refusals -= 1
        return "NOT_ALLOWED_IN_CURRENT_STATE"

    def finished(self, _: str) -> dict[str, Any]:
        """End the redeploy; afterwards the cluster is HEALTHY."""
        self.states = ["HEALTHY"]
        return {"status": self.ends}

    def call(self, *_: Any) -> dict[str, str]:
        """Return the mode."""
        return {"mode": "ENABLED"}


def lab_of(cluster: Cluster) -> RunningLab:
    api: Any = cluster
    nothing: Any = None
    return RunningLab(Path(), nothing, api, api)


def test_a_moment_without_health_fails_no_test() -> None:
    """Nor one without a node that serves the API."""
    lab_of(Cluster("DEGRADED", "503", "DEGRADED", "HEALTHY")).until_healthy(60)


def test_a_cluster_that_stays_unhealthy_is_shown() -> None:
    """As it was last seen."""
    with pytest.raises(AssertionError, match=r"not within 0 s.*'health_state': 'DEGRADED'"):
        lab_of(Cluster("DEGRADED")).until_healthy(0)


def test_a_repair_outlasts_refusals() -> None:
    """A redeploy is refused while the cluster recovers."""
    broken = Cluster("DEGRADED", refusals=2)
    lab_of(broken).repair("new")
    assert broken.redeployed == 1
    recovering = Cluster("DEGRADED", "DEGRADED", "HEALTHY", refusals=2)
    lab_of(recovering).repair("new")
    assert recovering.redeployed == 0


def test_a_repair_that_fails_fails_the_test() -> None:
    """It is not tried again: the reason would be lost."""
    broken = Cluster("DEGRADED", ends="FAILED")
    with pytest.raises(AssertionError):
        lab_of(broken).repair("new")
    assert broken.redeployed == 1


def test_what_is_no_cluster_any_more_is_not_repaired() -> None:
    """A test may have undeployed it; a redeploy would be refused until the deadline."""
    prepared = Cluster("none", refusals=1, config_state="PREPARED")
    with pytest.raises(AssertionError, match="PREPARED"):
        lab_of(prepared).repair("new")
    assert (prepared.redeployed, prepared.refusals) == (0, 1)
