"""Every declared error of every operation, as its clients get it: from a real cause."""

from typing import Any

import pytest
from tests.support.answers.causes import CAUSES
from tests.support.answers.clients import CLIENTS, OF_THE_SDK, Identification, Refused, RestClient
from tests.support.answers.stage import ServedCluster, ServedClusters

from openvcha.api.errors import ErrorType
from openvcha.api.messages import PREFIX
from openvcha.api.operations import OPERATIONS, by_id
from openvcha.api.structures import CertificateInfo
from openvcha.store import keys
from openvcha.system.thumbprints import thumbprint_sha256

AVAILABLE = [operation for operation in OPERATIONS if operation.available]
DECLARED = [(operation.id, error) for operation in AVAILABLE for error in operation.errors]
CALLS = [
    (protocol, name, error)
    for name, error in DECLARED
    for protocol in CLIENTS
    if protocol != "sdk" or by_id(name) in OF_THE_SDK
]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_each_declared_error_has_a_cause_and_no_other_has_one() -> None:
    """A newly declared error needs a cause here."""
    assert CAUSES.keys() == set(DECLARED)


@pytest.mark.parametrize(
    ("protocol", "name", "error"), CALLS, ids=[f"{p}-{n}-{e.value}" for p, n, e in CALLS]
)
def test_a_client_gets_it(
    stages: ServedClusters, protocol: str, name: str, error: ErrorType
) -> None:
    """With our message and its status or class, and no task has begun."""
    cause, client, operation = CAUSES[name, error], CLIENTS[protocol], by_id(name)
    stage = stages(cause.begin)
    with cause.holds(stage) as held:
        arguments = cause.arguments(stage, held)
        before = what_is(stage)
        with pytest.raises(Refused) as caught:
            client.call(stage, operation, arguments, identification(stage, cause))
        assert what_is(stage) == before
    refused = caught.value
    assert refused.error.error_type is error
    said = {each.id.removeprefix(PREFIX): each.default_message for each in refused.error.messages}
    assert said[cause.says]
    if isinstance(client, RestClient):
        assert refused.status == client.statuses[error]
    if error is ErrorType.UNVERIFIED_PEER:
        assert refused.error.data == certificate_of(stage)


def identification(stage: ServedCluster, cause: Any) -> Identification:
    if cause.password:
        return Identification(user=cause.user, password=cause.password)
    return Identification(token=stage.tokens[cause.user]) if cause.user else Identification()


def what_is(stage: ServedCluster) -> tuple[Any, ...]:
    """Return what no refused call may change: the running operation, nodes and configuration."""
    world = stage.scene.world
    running = stage.run(stage.store.get(keys.OPERATION))
    config = stage.run(stage.store.get(keys.CLUSTER))
    return running, config, world.state, list(world.members)


def certificate_of(stage: ServedCluster) -> CertificateInfo:
    pem = stage.tls.certificate.read_bytes()
    return CertificateInfo(ssl_thumbprint=thumbprint_sha256(pem), ssl_certificate=pem.decode())
