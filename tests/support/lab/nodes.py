"""A lab node's own status."""

import json
from typing import Any

import httpx2
from tests.support.lab.running_lab import RunningLab, run_vcha


def node_status(running: RunningLab, name: str) -> dict[str, Any]:
    """Return what `vcha node status` prints on the node itself."""
    done = run_vcha(["node", "status", "--json", str(running.directory(name))], check=False)
    return dict(json.loads(done.stdout))


def answers_healthy(running: RunningLab) -> bool:
    """Return whether the API reports HEALTHY; False while no node serves it."""
    try:
        return running.healthy()
    except (httpx2.TransportError, AssertionError):
        return False  # no node serves yet
