"""Errors during a task: the task shows them, in each protocol."""

from dataclasses import dataclass
from typing import Any

import pytest
from tests.support.answers.asking import CLUSTER, TASKS
from tests.support.answers.beginnings import deploy_spec, passive_lost, place, single, witness_lost
from tests.support.answers.clients import CLIENTS, Identification, ended, error_of
from tests.support.answers.stage import Begin, ServedClusters
from tests.support.edge import ADMINISTRATOR

from openvcha.api.errors import ErrorType
from openvcha.api.messages import PREFIX
from openvcha.api.operations import by_id

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
E = ErrorType
GOOD, NOWHERE = {"placement": place()}, {"placement": {"name": "n", "folder": "group-v99"}}


@dataclass(frozen=True)
class Failing:
    """A task that fails: its operation, the fault, and the first message of its error."""

    name: str
    begin: Begin
    spec: dict[str, Any]
    fault: str
    error: ErrorType
    says: str
    cancel: bool = False


FAILING = [
    Failing("passive.redeploy", passive_lost, GOOD, "copy fails", E.ERROR, "copy.failed"),
    Failing("passive.redeploy", passive_lost, NOWHERE, "", E.INVALID_ARGUMENT, "check.refused"),
    Failing("witness.redeploy", witness_lost, NOWHERE, "", E.INVALID_ARGUMENT, "check.refused"),
    Failing(
        "passive.redeploy",
        passive_lost,
        GOOD,
        "data elsewhere",
        E.INVALID_ELEMENT_CONFIGURATION,
        "active.elsewhere",
    ),
    Failing(
        "deploy",
        single,
        deploy_spec(),
        "data elsewhere",
        E.INVALID_ELEMENT_CONFIGURATION,
        "active.elsewhere",
    ),
    Failing(
        "passive.redeploy", passive_lost, GOOD, "copy hangs", E.CANCELED, "task.canceled", True
    ),
]


@pytest.mark.parametrize("protocol", CLIENTS)
@pytest.mark.parametrize(
    "failing", FAILING, ids=lambda each: f"{each.name}-{each.fault}-{each.error.value}"
)
def test_a_failed_task_shows_its_error(
    stages: ServedClusters, protocol: str, failing: Failing
) -> None:
    """The task FAILED with this error, and our message comes first."""
    client = CLIENTS[protocol]
    with stages.working(failing.begin) as stage:
        stage.scene.world.faults.update({failing.fault} - {""})
        who = Identification(token=stage.tokens[ADMINISTRATOR])
        operation = by_id(f"{CLUSTER}.{failing.name}")
        result = client.call(stage, operation, {"spec": failing.spec}, who)
        if failing.cancel:
            task = getattr(result, "get_task_id", lambda: result)()
            client.call(stage, by_id(f"{TASKS}.cancel"), {"task": task}, who)
        info = ended(client, stage, result)
        error = error_of(info, failing.error)
    assert (info.status, error.error_type) == ("FAILED", failing.error)
    assert error.messages[0].id == PREFIX + failing.says
