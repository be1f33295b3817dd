"""Every operation succeeds by each protocol: with the real operations, tasks to their end."""

import contextlib
from contextlib import AbstractContextManager

import pytest
from tests.support.answers.asking import SESSION
from tests.support.answers.clients import CLIENTS, OF_THE_SDK, Identification, ended
from tests.support.answers.stage import ServedCluster, ServedClusters
from tests.support.answers.successes import SUCCESSES, Success
from tests.support.edge import ADMINISTRATOR

from openvcha.api.operations import OPERATIONS, by_id

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
AVAILABLE = [operation for operation in OPERATIONS if operation.available]
CALLS = [
    (protocol, operation.id)
    for operation in AVAILABLE
    for protocol in CLIENTS
    if protocol != "sdk" or operation in OF_THE_SDK
]


def test_each_operation_has_its_success() -> None:
    """A new operation needs its expected result here."""
    assert SUCCESSES.keys() == {operation.id for operation in AVAILABLE}


@pytest.mark.parametrize(("protocol", "name"), CALLS, ids=[f"{p}-{n}" for p, n in CALLS])
def test_it_succeeds(stages: ServedClusters, protocol: str, name: str) -> None:
    """The result is correct, and a task ends with its intended effect."""
    expected, client, operation = SUCCESSES[name], CLIENTS[protocol], by_id(name)
    with on_stage(stages, name, expected) as stage, expected.holds(stage) as held:
        who = identification(stage, expected)
        result = client.call(stage, operation, expected.given(name, stage, held), who)
        assert expected.shows(result, held), result
        if operation.task:
            assert ended(client, stage, result).status == "SUCCEEDED"
        assert expected.then(stage, held)


def on_stage(
    stages: ServedClusters, name: str, expected: Success
) -> AbstractContextManager[ServedCluster]:
    """Return a separate stage for an operation that changes the cluster."""
    begin = expected.beginning(name)
    return stages.working(begin) if expected.works else contextlib.nullcontext(stages(begin))


def identification(stage: ServedCluster, expected: Success) -> Identification:
    if expected.logs_in:
        return Identification(user=ADMINISTRATOR)
    if not expected.own_session:
        return Identification(token=stage.tokens[ADMINISTRATOR])
    login = by_id(f"{SESSION}.create")
    token = CLIENTS["rest"].call(stage, login, {}, Identification(user=ADMINISTRATOR))
    return Identification(token=token.reveal())
