"""The example scripts of README.md, run unmodified against a SIMULATED cluster."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.answers.beginnings import passive_lost
from tests.support.answers.stage import ServedClusters
from tests.support.edge import ADMINISTRATOR, PASSWORD
from tests.support.simulated.scenes import ClusterScenario

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
NAME = "passive-2"
SCRIPT_SECONDS = 600
REPAIR_SECONDS = 3600.0
"""Of the simulated cluster, where time passes faster."""
PROGRAMS = {"redeploy.sh": ["bash"], "redeploy.py": [sys.executable]}


def test_each_example_is_run_here() -> None:
    """Add a new one to the table."""
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_readme_shows_it(name: str) -> None:
    """The text there is the file, except for its first lines, which say how to run it."""
    text = (EXAMPLES / name).read_text()
    blocks = re.findall(r"(?ms)^```\w+\n(.*?)^```", (ROOT / "README.md").read_text())
    shown = [block for block in blocks if text.endswith(f"\n\n{block}")]
    assert len(shown) == 1


async def repaired(scene: ClusterScenario) -> None:
    """Wait until the cluster has the new node."""
    async with asyncio.timeout(REPAIR_SECONDS):
        while NAME not in {node.name for node in (await scene.world.config()).nodes}:  # noqa: ASYNC110 - the store's
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_replaces_a_lost_passive(stages: ServedClusters, name: str) -> None:
    """With the variables that `vcha lab env` sets."""
    with stages.working(passive_lost) as stage:
        done = subprocess.run(
            [*PROGRAMS[name], str(EXAMPLES / name)],
            env={
                **os.environ,
                "API": f"https://{stage.where}",
                "CA": str(stage.tls.authority),
                "VCHA_USER": ADMINISTRATOR,
                "PASSWORD": PASSWORD,
            },
            capture_output=True,
            text=True,
            timeout=SCRIPT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        stage.run(repaired(stage.scene))
    if name.endswith(".py"):
        assert done.stdout.splitlines()[-1] == "SUCCEEDED HEALTHY"
