"""One real lab for the module, created and used with the commands that a person uses."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from tests.support.lab.labs import KILLED_AT, LAB_OPTIONS, SECONDS, Labs

from openvcha.cli.options import PROGRAM
from openvcha.lab.folders import VARIABLE


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """Yield a HEALTHY lab; its first `up` was killed in the middle, the second finished it."""
    base = tmp_path_factory.mktemp("labs")
    environment = {**os.environ, VARIABLE: str(base), "COLUMNS": "100"}
    environment.pop(PROGRAM, None)
    labs = Labs(base, environment=environment)
    try:
        labs.killed = _killed(labs)
        labs.again = labs.run("lab", "up")
        yield labs
    finally:
        ending = [labs.start("lab", "reset", "--yes", name=each.name) for each in base.iterdir()]
        # Wait for all of them, even when one does not end.
        over = [_over(process) for process in ending]
        assert all(over), "a lab was not taken down"


def _over(process: "subprocess.Popen[str]") -> bool:
    try:
        process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    return True


def _killed(labs: Labs) -> str:
    """Bring the lab up, and kill the command as soon as the deployment's task is running."""
    process = labs.start("lab", "up", *LAB_OPTIONS)
    assert process.stdout
    printed = ""
    with contextlib.closing(process.stdout) as lines:
        for line in lines:
            printed += line
            if KILLED_AT in line:
                process.send_signal(signal.SIGKILL)
                break
    process.wait(SECONDS)
    if process.stdin:
        process.stdin.close()
    return printed
