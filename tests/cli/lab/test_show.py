"""`lab status` of a lab whose deployment has failed."""

import pytest

from openvcha.cli.lab.show import show_status
from openvcha.lab.status import LabNodeStatus, LabStatus, Overall, _overall


def test_what_a_failed_deployment_has_left_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """The state, and how to delete each VM that is left; never for the active."""
    state = _overall({"config_state": "INVALID"})
    nodes = (
        LabNodeStatus(name="vcha-1", role="ACTIVE"),
        LabNodeStatus(name="vcha-2"),
        LabNodeStatus(name="vcha-3", role="WITNESS"),
    )
    found = LabStatus(name="x", directory="/labs/x", state=state, api="a", nodes=nodes)
    show_status(found, lambda words: f"vcha {words} --name x")
    shown = capsys.readouterr().out
    assert "Lab x is INVALID: one node; a deployment failed" in shown
    assert "vcha lab up --name x   deploys again" in shown
    destroyed = [line for line in shown.splitlines() if "lab destroy" in line]
    assert [line.split()[3] for line in destroyed] == ["vcha-2", "vcha-3"]


def test_one_node_without_more_is_single() -> None:
    """As before the first deployment."""
    assert _overall({"config_state": "NOTCONFIGURED"}) is Overall.SINGLE
