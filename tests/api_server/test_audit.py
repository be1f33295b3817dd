"""Every call that is to change something is audited, in every protocol, never with a secret."""

from typing import Any

import pytest
from tests.support.edge import ADMINISTRATOR, NOBODY, PASSWORD, READER, Edge, example
from tests.support.every_operation import call_rest, call_rpc

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.operations import OPERATIONS, Operation, by_id
from openvcha.api.structures import AuditInfo
from openvcha.api_server.auth.credentials import ANONYMOUS
from openvcha.store.errors import StoreUnavailable

REDEPLOY = by_id("com.vmware.vcenter.vcha.cluster.passive.redeploy")
CHANGING = [each for each in OPERATIONS if each.changes and "session" not in each.service]
LOOKING = [each for each in OPERATIONS if not each.changes and "session" not in each.service]
PROTOCOLS = {"rest": "/api", "legacy": "/rest", "json-rpc": ""}


async def call(edge: Edge, operation: Operation, protocol: str) -> Any:
    if protocol == "json-rpc":
        return await call_rpc(edge, operation)
    return await call_rest(edge, operation, prefix=PROTOCOLS[protocol])


async def records(edge: Edge) -> list[AuditInfo]:
    return [each for each in await edge.audit.list() if "session" not in each.operation]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("operation", CHANGING, ids=lambda each: each.id)
async def test_a_change_is_audited(edge: Edge, operation: Operation, protocol: str) -> None:
    """User, source, protocol, operation, arguments and result."""
    await call(edge, operation, protocol)
    (record,) = await records(edge)
    who = ADMINISTRATOR if operation.authenticated else ANONYMOUS
    assert (record.user, record.origin) == (who, "127.0.0.1")
    assert (record.protocol, record.operation) == (protocol, operation.id)
    assert record.time == edge.clock()
    assert record.result == ("OK" if operation.available else "UNSUPPORTED")
    assert record.task == (
        example(operation.reply) if operation.task and not record.reason else None
    )
    assert record.arguments is not None
    assert all(parameter.name in record.arguments for parameter in operation.parameters)
    assert "geheim" not in str(record)


@pytest.mark.parametrize("operation", LOOKING, ids=lambda each: each.id)
async def test_looking_is_not_audited(edge: Edge, operation: Operation) -> None:
    """Otherwise changes would be hard to find."""
    await call(edge, operation, "rest")
    assert await records(edge) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_refusal_is_audited_with_its_reason(edge: Edge, protocol: str) -> None:
    """By the operation itself."""
    edge.dispatcher.answers[REDEPLOY.id] = ApiError(
        ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("passive.healthy", "b")
    )
    await call(edge, REDEPLOY, protocol)
    (record,) = await records(edge)
    assert (record.result, record.task) == ("NOT_ALLOWED_IN_CURRENT_STATE", None)
    assert record.reason == message("passive.healthy", "b")


PATH = "/api" + REDEPLOY.path + "?action=redeploy&vmw-task=true"


@pytest.mark.parametrize("name", [READER, NOBODY])
async def test_who_may_not_change_is_audited_by_name(edge: Edge, name: str) -> None:
    """403: the arguments were not even read."""
    await edge.client.post(PATH, json={}, headers=await edge.headers(name))
    (record,) = await records(edge)
    assert (record.user, record.result, record.arguments) == (name, "UNAUTHORIZED", None)


async def test_who_is_not_logged_in_is_audited_by_address(edge: Edge) -> None:
    """401: the name is not recorded, as it may be a password typed into the wrong field."""
    await edge.client.post(PATH, json={}, auth=("geheim-as-name", "wrong"))
    (record,) = await records(edge)
    assert (record.user, record.origin, record.result) == (None, "127.0.0.1", "UNAUTHENTICATED")
    assert "geheim" not in str(record)


async def test_a_body_that_cannot_be_read_is_audited_without_it(edge: Edge) -> None:
    """Its content is unknown."""
    body = {"placement": {"geheim": 1}}
    await edge.client.post(PATH, json=body, headers=await edge.headers())
    (record,) = await records(edge)
    assert record.result != "OK"
    assert record.arguments is None


async def test_logging_in_and_out_is_audited(edge: Edge) -> None:
    """Also with a wrong password; neither password nor token is recorded."""
    await edge.client.post("/api/session", auth=(ADMINISTRATOR, "wrong"))
    token = (await edge.client.post("/api/session", auth=(ADMINISTRATOR, PASSWORD))).json()
    await edge.client.delete("/api/session", headers={"vmware-api-session-id": token})
    found = await edge.audit.list()
    assert [(each.operation.rsplit(".", 1)[-1], each.user, each.result) for each in found] == [
        ("create", None, "UNAUTHENTICATED"),
        ("create", ADMINISTRATOR, "OK"),
        ("delete", ADMINISTRATOR, "OK"),
    ]
    assert token not in str(found)
    assert PASSWORD not in str(found)


async def test_a_store_that_is_away_changes_no_answer(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]]
) -> None:
    """The call gets its normal answer; the record goes to the service's log."""
    headers = await edge.headers()
    written = edge.store.txn

    async def away(compares: Any, success: Any, failure: Any = ()) -> Any:
        if any("audit" in action.key for action in success):
            raise StoreUnavailable("away")
        return await written(compares, success, failure)

    monkeypatch.setattr(edge.store, "txn", away)
    path = "/api/cis/tasks/t-1?action=cancel"
    assert (await edge.client.post(path, headers=headers)).status_code == 204
    assert "audit record not stored" in [event["event"] for event in logged]
