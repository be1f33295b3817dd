"""Ambiguous or unreadable input is refused with one error that says where."""

import json
from typing import Any

import pytest
from tests.support.edge import ADMINISTRATOR, PASSWORD, READER, Edge
from tests.support.jsonrpc import invocation

BASIC = (ADMINISTRATOR, PASSWORD)
SESSION = "vmware-api-session-id"
CLUSTER = "/vcenter/vcha/cluster"
REDEPLOY = f"{CLUSTER}/passive?action=redeploy&vmw-task=true"
MINIMAL = {"placement": {"name": "passive-2", "folder": "group-v3"}}
PREFIXES = pytest.mark.parametrize("prefix", ["/api", "/rest"])


def refusal(response: Any) -> tuple[int, str, str, str]:
    """Return the status, the type, the id of the only message, and its text."""
    body = response.json()
    body = body.get("value", body)
    (said,) = body["messages"]
    short = said["id"].removeprefix("com.vmware.vcenter.vcha.")
    return response.status_code, body["error_type"], short, said["default_message"]


@PREFIXES
@pytest.mark.parametrize(
    ("query", "name", "shown"),
    [
        ("action=redeploy&vmw-task=maybe", "request.flag", "vmw-task=maybe"),
        ("action=redeploy&vmw-task=", "request.flag", "vmw-task="),
        ("action=redeploy&vmw-task=1", "request.flag", "vmw-task=1"),
        ("action=redeploy&vmw-task=" + "x" * 5000, "request.flag", "vmw-task=xxx"),
        ("action=redeploy&vmw-task=true&vmw-task=false", "request.repeated", "vmw-task"),
        ("action=redeploy&vmw-task=true&vmw-task=true", "request.repeated", "vmw-task"),
        ("action=redeploy&action=check&vmw-task=true", "request.repeated", "action"),
        ("action=redeploy&~action=check&vmw-task=true", "request.repeated", "action"),
        ("action=redeploy&action=redeploy&vmw-task=true", "request.repeated", "action"),
    ],
)
async def test_verbs_say_one_thing(
    edge: Edge, prefix: str, query: str, name: str, shown: str
) -> None:
    """Whether a call starts a task is not guessed."""
    for headers in (await edge.headers(), {}):
        response = await edge.client.post(
            f"{prefix}{CLUSTER}/passive?{query}", json=MINIMAL, headers=headers
        )
        status, kind, said, text = refusal(response)
        assert (status, kind, said) == (400, "INVALID_ARGUMENT", name)
        assert shown in text
        assert len(text) < 400
    assert edge.dispatcher.calls == []


@PREFIXES
@pytest.mark.parametrize("name", [SESSION, "authorization", "content-type", "content-encoding"])
async def test_a_header_that_decides_comes_once(edge: Edge, prefix: str, name: str) -> None:
    """With two sessions it is unclear which one is meant; a proxy may take the other."""
    own = {
        SESSION: [await edge.token(), await edge.token(READER)],
        "content-type": ["application/json"] * 2,
    }
    headers = [(SESSION, own[SESSION][0])] if name != SESSION else []
    headers += [(name, value) for value in own.get(name, ["gzip", "gzip"])]
    response = await edge.client.post(f"{prefix}{REDEPLOY}", content=b"{}", headers=headers)
    status, kind, said, text = refusal(response)
    assert (status, kind, said) == (400, "INVALID_ARGUMENT", "request.repeated")
    assert name in text
    assert own[SESSION][0] not in text
    assert edge.dispatcher.calls == []


async def test_json_rpc_is_as_strict(edge: Edge) -> None:
    """In its own form."""
    tokens = [(SESSION, await edge.token()), (SESSION, await edge.token(READER))]
    kind = ("content-type", "application/json")
    content = json.dumps(invocation()).encode()
    for headers in (
        [*tokens, kind],
        [kind, ("content-encoding", "br")],
        [(kind[0], f"{kind[1]}; charset=utf-16")],
    ):
        response = await edge.client.post("/api", content=content, headers=headers)
        assert response.status_code == 200
        assert response.json()["error"]["code"] == -32600
    for query in ("x=%ff", "action=a&action=b", "vmw-task=maybe"):
        response = await edge.client.post(f"/api?{query}", content=content, headers=[kind])
        assert response.json()["error"]["code"] == -32600
    assert edge.dispatcher.calls == []


async def test_json_rpc_has_one_session(edge: Edge) -> None:
    """That of the body, which the header may repeat; no other one, by header or cookie."""
    own, other = await edge.token(), await edge.token(READER)
    security = {"schemeId": "com.vmware.vapi.std.security.session_id", "sessionId": own}
    for headers in ({SESSION: other}, {"cookie": f"{SESSION}={other}"}):
        response = await edge.client.post(
            "/api", json=invocation(security=security), headers=headers
        )
        assert response.json()["error"]["code"] == -32602
        assert edge.dispatcher.calls == []
    for headers in ({SESSION: own}, {}):
        response = await edge.client.post(
            "/api", json=invocation(security=security), headers=headers
        )
        assert "output" in response.json()["result"]


@PREFIXES
async def test_a_session_comes_in_one_cookie(edge: Edge, prefix: str) -> None:
    """Neither in two headers nor twice in one, even if both are the same."""
    pair = f"{SESSION}={await edge.token()}"
    for cookies in ([pair, pair], [pair, "a=b"], [f"{pair}; {pair}"], [f"{pair};{SESSION} =x"]):
        headers = [("cookie", cookie) for cookie in cookies]
        response = await edge.client.get(f"{prefix}/vcenter/vcha/operations", headers=headers)
        assert refusal(response)[:3] == (400, "INVALID_ARGUMENT", "request.repeated")
    assert edge.dispatcher.calls == []


async def test_a_stream_is_as_strict(edge: Edge) -> None:
    """Its session is read as everywhere else."""
    headers = [(SESSION, await edge.token()), (SESSION, "x"), ("accept", "text/event-stream")]
    response = await edge.client.get("/api/openvcha/events", headers=headers)
    assert refusal(response)[:3] == (400, "INVALID_ARGUMENT", "request.repeated")
    response = await edge.client.get("/api/openvcha/events?vmw-task=maybe", headers=headers[1:])
    assert refusal(response)[:3] == (400, "INVALID_ARGUMENT", "request.flag")


@PREFIXES
@pytest.mark.parametrize(
    "path", ["/cis/tasks/%ff", "/cis/tasks/a%C3", "/vcenter/vm?names=%ff", "/vcenter/vm?%fe=x"]
)
async def test_what_is_quoted_is_utf_8(edge: Edge, prefix: str, path: str) -> None:
    """Otherwise two different names would become the same."""
    response = await edge.client.get(prefix + path, headers=await edge.headers())
    status, kind, said, text = refusal(response)
    assert (status, kind, said) == (400, "INVALID_ARGUMENT", "request.target")
    assert ("query" in text) is ("?" in path)
    assert edge.dispatcher.calls == []


async def test_quoted_utf_8_is_read(edge: Edge) -> None:
    """As ever, in the path and in the query."""
    headers = await edge.headers()
    assert (await edge.client.get("/api/cis/tasks/%C3%A4", headers=headers)).status_code == 200
    assert (
        await edge.client.get("/api/vcenter/vm?names=%C3%A4", headers=headers)
    ).status_code == 200
    task, vms = (arguments for _, arguments, _ in edge.dispatcher.calls)
    assert (task["task"], vms["filter"].names) == ("ä", frozenset({"ä"}))


@PREFIXES
@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"content-type": "application/json; charset=utf-16"}, "content.charset"),
        ({"content-type": 'application/json;x=y; Charset="ISO-8859-1"'}, "content.charset"),
        ({"content-type": "application/json; charset=" + "x" * 3000}, "content.charset"),
        ({"content-type": "application/json", "content-encoding": "br"}, "content.encoding"),
        ({"content-type": "application/json", "content-encoding": "deflate"}, "content.encoding"),
    ],
)
async def test_a_body_is_utf_8_plain_or_with_gzip(
    edge: Edge, prefix: str, headers: dict[str, str], name: str
) -> None:
    """An unknown encoding is refused even where there is no body to read.

    A charset is not: some clients name one for an empty text.
    """
    session = await edge.headers()
    for content in (b'{"planned": true}', b"")[: 2 if name == "content.encoding" else 1]:
        response = await edge.client.post(
            f"{prefix}{CLUSTER}?action=failover&vmw-task=true",
            content=content,
            headers=headers | session,
        )
        status, kind, said, text = refusal(response)
        assert (status, kind, said) == (400, "INVALID_ARGUMENT", name)
        assert len(text) < 400
    assert edge.dispatcher.calls == []


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8", "us-ascii"])
async def test_the_names_of_utf_8_are_known(edge: Edge, charset: str) -> None:
    """Some clients send it, though JSON has no charset."""
    response = await edge.client.post(
        f"/api{CLUSTER}?action=failover&vmw-task=true",
        content=b'{"planned": true}',
        headers={"content-type": f"application/json; charset={charset}"},
        auth=BASIC,
    )
    assert response.status_code == 202
