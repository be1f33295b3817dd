"""A client that only knows the description gets the described answers, whatever it sends.

Requests are generated from the served OpenAPI: as it permits them, and with one part changed.
JSON-RPC has no description; there the SDK's recorded requests are changed.
"""

import copy
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS30Validator
from tests.support.answers import beginnings
from tests.support.answers.stage import ServedCluster, ServedClusters
from tests.support.edge import ADMINISTRATOR, READER, WIRE

from openvcha.api_server.openapi import document

DOCUMENT = document.document()
SCHEMAS = DOCUMENT["components"]["schemas"]
SESSION = "vmware-api-session-id"
ENDS = {"Cis.Session_delete"}
"""The walk would go on without its session; its answers are the subject of other tests."""
RPC = [json.loads(path.read_bytes()) for path in sorted(WIRE.glob("*.request.json"))]
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.just([]),
    st.just({}),
    st.just({"a": [{}]}),
    st.just("x" * 5000),
).map(copy.deepcopy)  # the drawn value is changed
ROUNDS = 3
"""In each every operation is called once."""
WALK = settings(
    max_examples=50,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def described() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if operation["operationId"] not in ENDS:
                yield method.upper(), path, operation


@st.composite
def values(draw: st.DrawFn, schema: dict[str, Any], wrong: float) -> Any:
    """Draw a value that a schema permits; at each place, with some probability, one of any type."""
    if wrong and draw(st.floats(0, 1)) < wrong:
        return draw(JUNK)
    if "$ref" in schema:
        return draw(values(SCHEMAS[schema["$ref"].rpartition("/")[2]], wrong))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    return draw(plain(schema, wrong))


def plain(schema: dict[str, Any], wrong: float) -> st.SearchStrategy[Any]:
    """Return a strategy for a type without a name."""
    made: st.SearchStrategy[Any] = JUNK
    match schema.get("type"):
        case "object":
            made = objects(schema, wrong)
        case "array":
            made = st.lists(values(schema["items"], wrong), max_size=3)
        case "string":
            made = st.text(min_size=schema.get("minLength", 0), max_size=12)
        case "integer":
            made = st.integers(schema.get("minimum"), schema.get("maximum"))
        case "number":
            made = st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            made = st.booleans()
    return made


@st.composite
def objects(draw: st.DrawFn, schema: dict[str, Any], wrong: float) -> dict[str, Any]:
    required = set(schema.get("required", ()))
    made = {
        name: draw(values(inner, wrong))
        for name, inner in schema.get("properties", {}).items()
        if name in required or draw(st.booleans())
    }
    if wrong and made and draw(st.floats(0, 1)) < wrong:
        del made[draw(st.sampled_from(sorted(made)))]
    if wrong and draw(st.floats(0, 1)) < wrong:
        made[draw(st.text(max_size=8))] = draw(JUNK)
    return made


@st.composite
def requests(draw: st.DrawFn, path: str, operation: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Draw a request of an operation: its target, and the other arguments for httpx."""
    wrong = draw(st.sampled_from([0.0, 0.0, 0.1, 0.5]))
    query: list[tuple[str, str]] = []
    for parameter in operation.get("parameters", ()):
        value = draw(values(parameter["schema"], wrong))
        if parameter["in"] == "path":
            # With a slash it would be another path, which is not described.
            segment = quote(str(value).replace("/", "-"), safe="") or "x"
            path = path.replace(f"{{{parameter['name']}}}", segment)
        elif parameter["required"] or draw(st.booleans()):
            each = value if isinstance(value, list) else [value]
            query += [(parameter["name"], str(one)) for one in each]
    if query:
        path += ("&" if "?" in path else "?") + "&".join(f"{n}={quote(v)}" for n, v in query)
    more: dict[str, Any] = {"headers": {}}
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        content = json.dumps(draw(values(schema, wrong))).encode()
        if wrong and draw(st.floats(0, 1)) < wrong:
            content = draw(st.binary(max_size=40))
        more = {"content": content, "headers": {"content-type": "application/json"}}
    return f"/api{path}", more


@pytest.fixture(scope="module", params=["healthy", "passive_lost"])
def stage(request: pytest.FixtureRequest, stages: ServedClusters) -> ServedCluster:
    return stages(getattr(beginnings, request.param))


def test_every_answer_is_one_that_is_described(stage: ServedCluster) -> None:
    """Its status is declared for the operation, its body matches the schema; none is internal."""
    seen: set[str] = set()

    @settings(WALK, max_examples=ROUNDS)
    @given(data=st.data(), user=st.sampled_from([ADMINISTRATOR, ADMINISTRATOR, READER, ""]))
    def walk(data: st.DataObject, user: str) -> None:
        for method, path, operation in described():
            target, more = data.draw(requests(path, operation))
            more["headers"] |= {SESSION: stage.tokens[user]} if user else {}
            answer = stage.http.request(method, target, **more)
            status = examined(answer, operation)
            seen.add(f"{operation['operationId']} {status}")

    walk()
    answers = [each.split()[1] for each in seen]
    assert sum(status == "400" for status in answers) > 2, "hardly anything was wrong"
    assert sum(status < "300" for status in answers) > 5, "hardly anything was right"


def examined(answer: httpx2.Response, operation: dict[str, Any]) -> str:
    """Check an answer against its description, and return its status."""
    status = str(answer.status_code)
    assert status in operation["responses"], answer.text
    body = answer.json() if answer.content else None
    if body and not answer.is_success:
        assert body["error_type"] != "INTERNAL_SERVER_ERROR", answer.text
        assert body["error_type"] in operation["responses"][status]["description"], answer.text
    content = operation["responses"][status].get("content")
    if content:
        schema = content["application/json"]["schema"] | {"components": DOCUMENT["components"]}
        assert [*OAS30Validator(schema).iter_errors(body)] == []
    return status


@st.composite
def calls(draw: st.DrawFn) -> bytes:
    """Draw a recorded request of the SDK, with some values changed."""
    request = json.loads(json.dumps(draw(st.sampled_from(RPC))))
    for _ in range(draw(st.integers(0, 3))):
        place = request
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.integers(0, 3)):
                place = place[key]
                continue
            if draw(st.booleans()):
                place[key] = draw(JUNK)
            else:
                del place[key]
            break
    content = json.dumps(request).encode()
    return content[: draw(st.integers(0, len(content)))] if not draw(st.integers(0, 9)) else content


@WALK
@given(content=calls())
def test_every_call_of_json_rpc_is_answered(stage: ServedCluster, content: bytes) -> None:
    """With HTTP 200: a result, or an error with its code; no error is internal."""
    headers = {"content-type": "application/json", SESSION: stage.tokens[ADMINISTRATOR]}
    answer = stage.http.post("/api", content=content, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    reply = answer.json()
    assert reply["jsonrpc"] == "2.0"
    assert ("result" in reply) is not ("error" in reply)
    assert "internal_server_error" not in answer.text
