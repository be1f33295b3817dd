"""schemathesis holds what a simulated cluster answers against what /openapi.json declares.

It is a program of its own, with its own checks and those of ``judgement.py``. The requests are the
same in each run; ``test_description_soak.py`` has more of them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.protocols.answers.beginnings import healthy
from tests.protocols.answers.stage import Stage, Stages
from tests.protocols.conftest import ADMINISTRATOR, PASSWORD

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
ROOT = Path(__file__).parents[3]
SECONDS = 900
HEADER = "vmware-api-session-id"
FEW = 2


def hold(stage: Stage, examples: int, *options: str) -> None:
    """Let schemathesis ask, and pass on what it has found."""
    where = f"https://{stage.where}"
    command = [sys.executable, "-m", "schemathesis.cli"]
    command += ["--config-file", str(CONFIGURATION), "run", f"{where}/openapi.json"]
    command += ["--url", f"{where}/api", "--tls-verify", str(stage.tls.authority), "--no-color"]
    command += ["--generation-deterministic", "--max-examples", str(examples), *options]
    run = subprocess.run(
        command,
        cwd=stage.tls.authority.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def by_session(stage: Stage, who: str, examples: int) -> None:
    """Ask for everything but sessions, which would end the one that is used."""
    session = ["--header", f"{HEADER}:{stage.tokens[who]}"] if who else []
    hold(stage, examples, "--exclude-path", "/session", *session)


@pytest.mark.parametrize("who", [ADMINISTRATOR, ""], ids=["administrator", "nobody"])
def test_every_operation_is_as_described(stages: Stages, who: str) -> None:
    """With a session, and without one; in the soak by others too."""
    by_session(stages(healthy), who, FEW)


def test_sessions_are_as_described(stages: Stages) -> None:
    """Begun, shown and ended by name and password, and by nobody."""
    for auth in (["--auth", f"{ADMINISTRATOR}:{PASSWORD}"], []):
        hold(stages(healthy), FEW, "--include-path", "/session", *auth)
