"""Users of low privilege, and strangers, can do nothing that they may not, by any protocol."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.edge import ADMINISTRATOR, NOBODY, PASSWORD, READER, Edge, make_edge
from tests.support.every_operation import arguments_of, rest_request, rpc_request

from openvcha.api.operations import OPERATIONS, Operation
from openvcha.api.secret import Secret
from openvcha.api_server.auth.names_and_roles import UserRole

# Written out here on purpose, not read from the table under test.
FOR_ALL = {
    "com.vmware.cis.session.create",
    "com.vmware.cis.session.get",
    "com.vmware.cis.session.delete",
}
WITHOUT_SESSION = {"org.openvcha.joining.join"}  # authenticated by the token in its body
FOR_READERS = {
    "com.vmware.cis.tasks.get",
    "com.vmware.cis.tasks.list",
    "com.vmware.vcenter.vcha.operations.get",
    "com.vmware.vcenter.vcha.cluster.deployment_type.get",
    "com.vmware.vcenter.vcha.cluster.mode.get",
    "org.openvcha.events.list",
    *(
        f"com.vmware.vcenter.{kind}.list"
        for kind in (
            "datacenter",
            "cluster",
            "folder",
            "host",
            "resource_pool",
            "network",
            "datastore",
            "VM",
        )
    ),
}
PARTIAL = {"com.vmware.vcenter.vcha.cluster.get", "com.vmware.vcenter.vcha.cluster.active.get"}
"""With ``partial`` a reader may; whole, they use credentials of another vCenter."""
PROTOCOLS = ("/api", "/rest", "json-rpc")
PROTECTED = [each for each in OPERATIONS if each.id not in FOR_ALL | WITHOUT_SESSION]
SESSION = "vmware-api-session-id"


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """Return an edge with an administrator, a reader and a user without access."""
    made = await make_edge()
    async with made.client:
        yield made


async def call(
    edge: Edge, operation: Operation, protocol: str, headers: dict[str, str], **changes: Any
) -> int:
    """Call an operation; return the status that REST would answer."""
    arguments = {**arguments_of(operation), **changes}
    if protocol != "json-rpc":
        method, path, query, body = rest_request(operation, arguments, wrapped=protocol == "/rest")
        reply = await edge.client.request(
            method, protocol + path, params=query, json=body, headers=headers
        )
        return int(reply.status_code)
    request = rpc_request(operation, arguments)
    reply = await edge.client.post("/api", json=request, headers=headers)
    result = reply.json().get("result", {})
    if "error" not in result:
        return 200
    (kind,) = result["error"]["ERROR"]
    return {"unauthenticated": 401, "unauthorized": 403}.get(kind.rpartition(".")[2], 400)


def happened(edge: Edge) -> list[str]:
    return [operation.id for operation, _, _ in edge.dispatcher.calls]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_stranger_calls_nothing(edge: Edge, protocol: str) -> None:
    """Without a session, with an invented one, with a wrong password; none reveals who exists."""
    for headers in ({}, {SESSION: "0" * 64}, {SESSION: "x"}, {"cookie": f"{SESSION}={'0' * 64}"}):
        for operation in PROTECTED:
            assert await call(edge, operation, protocol, headers) == 401, operation.id
    assert happened(edge) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_no_access_is_none(edge: Edge, protocol: str) -> None:
    """Such a user may log in and out."""
    headers = await edge.headers(NOBODY)
    for operation in PROTECTED:
        assert await call(edge, operation, protocol, headers) == 403, operation.id
    assert happened(edge) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_reader_changes_nothing(edge: Edge, protocol: str) -> None:
    """He reads what a reader may, including all tasks, but not the audit; he gets no join token."""
    headers = await edge.headers(READER)
    for operation in PROTECTED:
        permitted = operation.id in FOR_READERS
        whole = {"partial": False} if operation.id in PARTIAL else {}
        status = await call(edge, operation, protocol, headers, **whole)
        assert (status < 300) is permitted, operation.id
        assert permitted or status == 403, operation.id
    assert set(happened(edge)) == FOR_READERS - {
        each.id for each in OPERATIONS if not each.available
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_reader_gets_no_more_by_asking_for_less(edge: Edge, protocol: str) -> None:
    """`partial` grants a part; a vCenter's credentials with it grant no more."""
    headers = await edge.headers(READER)
    for operation in OPERATIONS:
        if operation.id in PARTIAL:
            given = {"partial": True, "vc_spec": None}
            assert await call(edge, operation, protocol, headers, **given) == 200
            for whole in ({"partial": None, "vc_spec": None}, {"partial": False}):
                assert await call(edge, operation, protocol, headers, **whole) == 403
    assert len(happened(edge)) == len(PARTIAL)


async def test_each_other_way_in_has_the_same_door(edge: Edge) -> None:
    """Basic on each request, the cookie, and the event stream."""
    change = "/api/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true"
    body = {"placement": {"name": "x", "folder": "f"}}
    for user in (READER, NOBODY):
        basic = await edge.client.post(change, json=body, auth=(user, PASSWORD))
        cookie = {"cookie": f"{SESSION}={await edge.token(user)}"}
        jar = await edge.client.post(change, json=body, headers=cookie)
        assert (basic.status_code, jar.status_code) == (403, 403)
    stream = {"accept": "text/event-stream"}
    for headers, status in (({}, 401), (await edge.headers(NOBODY), 403)):
        reply = await edge.client.get("/api/openvcha/events", headers=stream | headers)
        assert reply.status_code == status
    assert happened(edge) == []


async def test_what_was_refused_is_in_the_audit_without_its_secrets(edge: Edge) -> None:
    """An administrator sees who tried what."""
    headers = await edge.headers(READER)
    (redeploy,) = (o for o in OPERATIONS if o.id.endswith("cluster.passive.redeploy"))
    assert await call(edge, redeploy, "/api", headers) == 403
    (record,) = [entry for entry in await edge.audit.list() if entry.operation == redeploy.id]
    assert (record.user, record.result) == (READER, "UNAUTHORIZED")
    assert "geheim" not in repr(record)


async def test_no_one_makes_himself_more(edge: Edge) -> None:
    """A new role applies to open sessions; a removed user's session ends, on each node."""
    await edge.users.add("other", Secret(PASSWORD), UserRole.ADMINISTRATOR)
    headers = await edge.headers("other")
    (mode,) = (o for o in OPERATIONS if o.id.endswith("cluster.mode.set"))
    assert await call(edge, mode, "/api", headers) < 300
    await edge.users.set_role("other", UserRole.READ_ONLY)
    assert await call(edge, mode, "/api", headers) == 403
    other_node = await make_edge(edge.store)
    async with other_node.client:
        assert await call(other_node, mode, "/api", headers) == 403
        await edge.users.remove("other")
        assert await call(other_node, mode, "/api", headers) == 401
    assert ADMINISTRATOR in {user.name for user in await edge.users.list()}
