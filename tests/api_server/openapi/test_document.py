"""The OpenAPI document: valid, complete, and with the official names."""

import contextlib
from typing import Any

import pytest
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import validate
from tests.support.edge import Edge

from openvcha.api.codec.decode import decode_rest
from openvcha.api.errors import STATUS, ApiError
from openvcha.api.operations import OPERATIONS
from openvcha.api.structures import CredentialsSpec
from openvcha.api_server.openapi import document as openapi
from openvcha.events.log import MAX_EVENTS
from openvcha.operations.peers.identity import require_usable


async def test_it_is_served_without_a_session(edge: Edge) -> None:
    """It describes the API and is not secret."""
    response = await edge.client.get("/openapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == openapi.document()


def test_it_is_valid() -> None:
    """By the specification's own rules."""
    validate(openapi.document())
    assert openapi.document()["openapi"] == "3.0.3"
    assert openapi.document()["servers"] == [{"url": "/api"}]


def test_every_operation_is_in_it_once() -> None:
    """Legacy REST is not."""
    paths = openapi.document()["paths"]
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(ids) == len(set(ids)) == len(OPERATIONS)
    assert not any("com/vmware" in path for path in paths)


def test_the_names_are_the_official_ones() -> None:
    """Keys with their query, operation ids and schema names."""
    document = openapi.document()
    redeploy = document["paths"]["/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true"][
        "post"
    ]
    assert redeploy["operationId"] == "Vcenter.Vcha.Cluster.Passive_redeploy$Task"
    assert redeploy["tags"] == ["Vcenter.Vcha.Cluster.Passive"]
    assert redeploy["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Vcenter.Vcha.Cluster.Passive.RedeploySpec"
    }
    assert redeploy["requestBody"]["required"] is True
    assert {"202", "400", "401", "403", "500", "default"} <= redeploy["responses"].keys()
    schema = document["components"]["schemas"]["Vcenter.Vcha.Cluster.Passive.RedeploySpec"]
    assert schema["required"] == ["placement"]
    assert set(schema["properties"]) == {"vc_spec", "placement", "ha_ip", "failover_ip"}
    assert document["paths"]["/cis/tasks/{task}"]["get"]["parameters"][0]["in"] == "path"
    assert (
        document["paths"]["/vcenter/vcha/cluster?action=get"]["post"]["requestBody"]["required"]
        is False
    )


def test_every_declared_error_has_its_status() -> None:
    """So that a client knows what to expect."""
    paths = openapi.document()["paths"]
    by_id = {each["operationId"]: each for path in paths.values() for each in path.values()}
    for operation in OPERATIONS:
        (described,) = (
            each
            for name, each in by_id.items()
            if name == openapi._operation(operation)["operationId"]
        )
        wanted = {str(STATUS[error]) for error in operation.errors} | {str(operation.status)}
        assert wanted <= described["responses"].keys()


def test_every_reference_leads_somewhere() -> None:
    """No schema is missing or unused."""
    document = openapi.document()
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                found.add(value["$ref"].rpartition("/")[2])
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(document)
    assert found <= document["components"]["schemas"].keys()


def accepts(value: Any) -> bool:
    """Return whether the description accepts this body of ``cluster.get``."""
    document = openapi.document()
    get = document["paths"]["/vcenter/vcha/cluster?action=get"]["post"]["requestBody"]
    schema = get["content"]["application/json"]["schema"]
    return not [*OAS30Validator(schema | {"components": document["components"]}).iter_errors(value)]


PEER = {"hostname": "vc.example", "username": "u", "password": "p"}


@pytest.mark.parametrize(
    ("where", "fine"),
    [
        (PEER, True),
        (PEER | {"port": 443, "ssl_thumbprint": "A1" * 32}, True),
        (None, False),
        ({}, False),
        ({"hostname": "vc.example"}, False),
        (PEER | {"password": ""}, False),
        (PEER | {"hostname": "x" * 254}, False),
        (PEER | {"port": 0}, False),
        (PEER | {"port": 65536}, False),
        (PEER | {"ssl_thumbprint": "AA", "ssl_certificate": "PEM"}, False),
    ],
)
def test_what_is_refused_for_its_form_is_not_valid(where: Any, fine: bool) -> None:
    """The description and the server agree about ``vc_spec``."""
    spec = {} if where is None else {"active_location": where}
    assert accepts({"vc_spec": spec}) is fine
    with contextlib.nullcontext() if fine else pytest.raises(ApiError):
        require_usable(decode_rest(CredentialsSpec, spec))


def test_numbers_have_bounds() -> None:
    """In the query, too."""
    paths = openapi.document()["paths"]
    (limit,) = (p for p in paths["/openvcha/events"]["get"]["parameters"] if p["name"] == "limit")
    assert limit["schema"]["minimum"] == 1
    assert limit["schema"]["maximum"] == MAX_EVENTS


def test_every_operation_declares_what_the_protocol_may_answer() -> None:
    """Every operation refuses ambiguous headers, and callers without the privilege."""
    for path in openapi.document()["paths"].values():
        for described in path.values():
            assert {"400", "401", "500", "503"} <= described["responses"].keys()


def test_what_needs_no_log_in_declares_none() -> None:
    """Only joining, which needs a token instead; logging in takes a password."""
    found = {
        method["operationId"]: method["security"]
        for path in openapi.document()["paths"].values()
        for method in path.values()
    }
    either: list[dict[str, list[str]]] = [{"api_key_auth": []}, {"basic_auth": []}]
    others = {name: security for name, security in found.items() if security != either}
    assert sorted(map(str, others.values())) == ["[]", "[{'basic_auth': []}]"], others
