"""The API on the HA network: new nodes join there, and there is nothing else."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from tests.support.edge import ADMINISTRATOR, PASSWORD, Edge

from openvcha.api.operations import OPERATIONS
from openvcha.api_server.app import JOIN, build_joins

SPEC = {
    "token": "t",
    "role": "PASSIVE",
    "name": "n",
    "ha_address": "127.83.2.12",
    "certificate_request": "c",
}


@pytest.fixture
async def joins(edge: Edge) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=build_joins(edge.pipeline))
    async with httpx2.AsyncClient(transport=transport, base_url="https://testserver") as client:
        yield client


async def test_a_node_joins(edge: Edge, joins: httpx2.AsyncClient) -> None:
    """As at the other address, without a session."""
    reply = await joins.post("/api/openvcha/joins", json=SPEC)
    assert reply.status_code == 200
    ((operation, _, _),) = edge.dispatcher.calls
    assert operation.id == JOIN


async def test_everything_else_is_not_there(edge: Edge, joins: httpx2.AsyncClient) -> None:
    """Whoever asks, and with whatever password: a standard error, and no call."""
    headers = await edge.headers()
    paths = {(each.method, f"/api{each.path}") for each in OPERATIONS if each.id != JOIN}
    paths |= {("GET", "/openapi.json"), ("POST", "/api"), ("GET", "/"), ("GET", "/api")}
    paths |= {("POST", "/rest/openvcha/joins"), ("POST", "/rest/com/vmware/cis/session")}
    paths |= {("GET", "/api/openvcha/joins"), ("POST", "/api/openvcha/joins/"), ("GET", "/api/")}
    for method, path in sorted(paths):
        reply = await joins.request(method, path, headers=headers, json=SPEC)
        assert (reply.status_code, method, path) == (404, method, path)
        assert reply.json()["error_type"] == "OPERATION_NOT_FOUND"
    login = await joins.post("/api/session", auth=(ADMINISTRATOR, PASSWORD))
    assert login.status_code == 404
    assert edge.dispatcher.calls == []


async def test_a_body_is_limited_as_a_stranger_s(edge: Edge, joins: httpx2.AsyncClient) -> None:
    """A larger one is not read."""
    reply = await joins.post("/api/openvcha/joins", json={**SPEC, "name": "x" * (1 << 20)})
    assert (reply.status_code, reply.json()["error_type"]) == (400, "INVALID_REQUEST")
    assert edge.dispatcher.calls == []
