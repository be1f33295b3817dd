"""Internal errors: found by an id, without a secret in the log or the answer."""

import errno
import json
import os
import re
from typing import Any

import pytest
from tests.support.edge import ADMINISTRATOR, PASSWORD, Edge, example

from openvcha.api.operations import by_id
from openvcha.api.secret import Secret
from openvcha.api_server.redaction import describe, redact, secrets_in

REDEPLOY = "com.vmware.vcenter.vcha.cluster.passive.redeploy"
PATH = "/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true"
PEER_PASSWORD = 'peer\'s "geheim" ü\\n'
SPEC = {
    "vc_spec": {"active_location": {"hostname": "h", "username": "u", "password": PEER_PASSWORD}},
    "placement": {"name": "n", "folder": "f"},
}


class LeakyError(Exception):
    """An error whose text quotes secrets in several ways."""


def leak(token: str) -> LeakyError:
    secrets = [PEER_PASSWORD, PASSWORD, token]
    return LeakyError(f"{secrets!r} {json.dumps(secrets)} {' '.join(secrets)}")


def hides(text: str, *secrets: str) -> bool:
    return not any(
        spelling in text
        for secret in secrets
        for spelling in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1])
    )


@pytest.mark.parametrize("prefix", ["/api", "/rest"])
async def test_a_failure_of_our_own_over_rest(edge: Edge, logged: list[Any], prefix: str) -> None:
    """500 with an operation id that is in the log, which has the traceback but no secret."""
    headers = await edge.headers()
    token = headers["vmware-api-session-id"]
    edge.dispatcher.answers[REDEPLOY] = leak(token)
    body = SPEC if prefix == "/api" else {"spec": SPEC}
    response = await edge.client.post(prefix + PATH, json=body, headers=headers)
    assert response.status_code == 500
    assert "INTERNAL_SERVER_ERROR" in response.text
    assert "operation-0815" in response.text
    assert "Traceback" not in response.text
    (event,) = (event for event in logged if event["event"] == "internal error")
    assert event["operation_id"] == "operation-0815"
    assert "Leaky" in event["failure"]
    assert "edge.py" in event["failure"]
    for text in (response.text, repr(logged), event["failure"]):
        assert hides(text, PEER_PASSWORD, token, "geheim")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EROFS, errno.ENOSPC])
async def test_a_file_that_is_refused_is_named_with_what_to_do(edge: Edge, number: int) -> None:
    """As in a task, in the error that the operation declares; never to a stranger."""
    path = "/srv/node/infrastructure/inventory.json"
    refused = OSError(number, os.strerror(number), path)
    edge.dispatcher.answers[REDEPLOY] = refused
    response = await edge.client.post("/api" + PATH, json=SPEC, headers=await edge.headers())
    assert response.json()["error_type"] == "ERROR"
    assert path in response.text
    assert "try again" in response.text
    edge.dispatcher.answers[REDEPLOY] = ConnectionResetError(errno.ECONNRESET, "reset")
    response = await edge.client.post("/api" + PATH, json=SPEC, headers=await edge.headers())
    assert response.json()["error_type"] == "INTERNAL_SERVER_ERROR"


async def test_a_stranger_is_told_no_path(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before authentication, details go to the log only."""

    async def fails(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", "/srv/node/secrets.json")

    monkeypatch.setattr("openvcha.api_server.auth.users.Users._find", fails)
    response = await edge.client.post("/api/session", auth=(ADMINISTRATOR, PASSWORD))
    assert response.json()["error_type"] == "INTERNAL_SERVER_ERROR"
    assert "secrets.json" not in response.text


async def test_a_failure_of_our_own_over_json_rpc(edge: Edge, logged: list[Any]) -> None:
    """The same, as the method's error; the password is in the security context."""
    edge.dispatcher.answers["com.vmware.vcenter.vcha.operations.get"] = leak("x")
    request = {
        "jsonrpc": "2.0",
        "id": "1",
        "method": "invoke",
        "params": {
            "serviceId": "com.vmware.vcenter.vcha.operations",
            "operationId": "get",
            "input": {"STRUCTURE": {"operation-input": {}}},
            "ctx": {
                "appCtx": {"opId": "client\nid"},
                "securityCtx": {
                    "schemeId": "com.vmware.vapi.std.security.user_pass",
                    "userName": ADMINISTRATOR,
                    "password": PASSWORD,
                },
            },
        },
    }
    response = await edge.client.post("/api", json=request)
    (name,) = response.json()["result"]["error"]["ERROR"]
    assert name == "com.vmware.vapi.std.errors.internal_server_error"
    assert "operation-0815" in response.text
    assert hides(response.text + repr(logged), PASSWORD)


async def test_a_result_that_cannot_be_written_is_a_failure_of_our_own(edge: Edge) -> None:
    """A handler that returns the wrong type does not break the connection."""
    edge.dispatcher.answers["com.vmware.vcenter.vcha.cluster.mode.get"] = object()
    response = await edge.client.get(
        "/api/vcenter/vcha/cluster/mode", auth=(ADMINISTRATOR, PASSWORD)
    )
    assert (response.status_code, response.json()["error_type"]) == (500, "INTERNAL_SERVER_ERROR")


async def test_no_request_leaves_a_secret_in_the_log(edge: Edge, logged: list[Any]) -> None:
    """Logging in, wrong passwords, calls with secrets, refused bodies: the log has none of them."""
    basic = (ADMINISTRATOR, PASSWORD)
    token = (await edge.client.post("/api/session", auth=basic)).json()
    header = {"vmware-api-session-id": token}
    bad = {**SPEC, "nonsense": 1}
    replies = [
        await edge.client.post("/api/session", auth=(ADMINISTRATOR, "not-the-password")),
        await edge.client.post(f"/api{PATH}", json=SPEC, headers=header),
        await edge.client.post(f"/api{PATH}", json=bad, headers=header),
        await edge.client.post(f"/rest{PATH}", json={"spec": bad}, auth=basic),
        await edge.client.delete("/api/session", headers=header),
    ]
    text = repr(logged) + "".join(reply.text for reply in replies)
    assert len(logged) >= len(replies)
    assert hides(text, PASSWORD, PEER_PASSWORD, token, "not-the-password")


async def test_each_call_is_logged_with_who_what_and_how_it_ended(
    edge: Edge, logged: list[Any]
) -> None:
    """Changes and refusals at info, plain reads at debug."""
    basic = (ADMINISTRATOR, PASSWORD)
    await edge.client.post(f"/api{PATH}", json=SPEC, auth=basic)
    await edge.client.get("/api/vcenter/vcha/operations", auth=basic)
    await edge.client.get("/api/vcenter/vcha/operations", auth=(ADMINISTRATOR, "wrong-password"))
    calls = [event for event in logged if event["event"] == "call"]
    assert [(event["log_level"], event["result"]) for event in calls] == [
        ("info", "OK"),
        ("debug", "OK"),
        ("info", "UNAUTHENTICATED"),
    ]
    assert calls[0]["operation"] == by_id(REDEPLOY).id
    assert calls[0]["user"] == ADMINISTRATOR
    assert calls[2]["user"] is None


def test_without_known_secrets_only_places_and_types_are_told() -> None:
    """An error while a body is read may quote anything."""
    token = "token-" + "x" * 3  # a traceback shows this line, so it must not contain it in full
    try:
        raise leak(token)
    except LeakyError as failure:
        text = describe(failure, None)
    assert "Leaky" in text
    assert re.search(r"test_secrets\.py.*line \d+", text)
    assert hides(text, PASSWORD, token)


def test_secrets_are_found_wherever_they_are() -> None:
    """In structures, lists and maps."""
    spec = example(by_id(REDEPLOY).parameters[0].type)
    found = list(secrets_in({"spec": spec, "more": [{"a": Secret("one")}]}))
    assert {secret.reveal() for secret in found} == {"geheim-im-beispiel", "one"}
    assert redact("a=one b=none", [Secret("one"), Secret("")]) == "a=*** b=n***"
