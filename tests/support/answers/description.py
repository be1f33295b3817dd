"""The API's description, as schemathesis reads it, with a session."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.answers.stage import ServedCluster

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


ROOT = Path(__file__).parents[3]


SECONDS = 900


HEADER = "vmware-api-session-id"


def hold(stage: ServedCluster, examples: int, *options: str) -> None:
    """Run schemathesis, and pass on what it found."""
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


def by_session(stage: ServedCluster, who: str, examples: int, *options: str) -> None:
    """Call everything except sessions, which would end the one in use."""
    session = ["--header", f"{HEADER}:{stage.tokens[who]}"] if who else []
    hold(stage, examples, "--exclude-path", "/session", *session, *options)
