"""Changing the mode of a lab."""

from tests.support.lab.running_lab import RunningLab

MODE = "/vcenter/vcha/cluster/mode"


SET = f"{MODE}?vmw-task=true"


def change(running: RunningLab, mode: str) -> None:
    """Change the mode and wait until the task has ended."""
    task = running.admin.call("PUT", SET, {"mode": mode}, 202)
    info = running.admin.finished(task)
    assert info["status"] == "SUCCEEDED", info
    assert running.admin.call("GET", MODE) == {"mode": mode}
    assert running.admin.cluster(partial=True)["mode"] == mode


def enabled(running: RunningLab) -> None:
    """Return the lab to ENABLED and HEALTHY, where all but one change starts, after any test."""
    if running.admin.call("GET", MODE) != {"mode": "ENABLED"}:
        change(running, "ENABLED")
    running.until(running.healthy)
