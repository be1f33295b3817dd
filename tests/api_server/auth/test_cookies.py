"""The session token as a cookie, for clients with a cookie jar; never for another site's page."""

from http.cookies import SimpleCookie

import pytest
from tests.support.edge import ADMINISTRATOR, PASSWORD, READER, Edge

LOGIN = {"/api": "/api/session", "/rest": "/rest/com/vmware/cis/session"}
READ = "/vcenter/vcha/operations"
CHANGE = "/vcenter/vcha/cluster?action=failover&vmw-task=true"
NAME = "vmware-api-session-id"
BASIC = (ADMINISTRATOR, PASSWORD)
PREFIXES = pytest.mark.parametrize("prefix", ["/api", "/rest"])


async def logged_in(edge: Edge, prefix: str) -> str:
    response = await edge.client.post(LOGIN[prefix], auth=BASIC)
    made = SimpleCookie(response.headers["set-cookie"])[NAME]
    assert (made["path"], made["samesite"]) == (prefix, "Strict")
    assert made["secure"] is True
    assert made["httponly"] is True
    assert made.value == response.headers[NAME]
    edge.client.cookies.clear()
    return made.value


@PREFIXES
@pytest.mark.parametrize("form", ["{}", '"{}"'])
async def test_a_jar_is_enough(edge: Edge, prefix: str, form: str) -> None:
    """Quoted or not, among other cookies."""
    token = await logged_in(edge, prefix)
    cookie = f"a=b; {NAME}={form.format(token)}; c=d"
    assert (await edge.client.get(prefix + READ, headers={"cookie": cookie})).status_code == 200
    assert (await edge.client.get(prefix + READ)).status_code == 401


@PREFIXES
async def test_a_logout_makes_the_client_forget_it(edge: Edge, prefix: str) -> None:
    """And the token is invalid afterwards."""
    cookie = {"cookie": f"{NAME}={await logged_in(edge, prefix)}"}
    gone = await edge.client.delete(LOGIN[prefix], headers=cookie)
    assert SimpleCookie(gone.headers["set-cookie"])[NAME]["max-age"] == "0"
    assert (await edge.client.get(prefix + READ, headers=cookie)).status_code == 401


async def test_what_is_said_on_purpose_goes_first(edge: Edge) -> None:
    """An expired cookie, or another user's, does not interfere."""
    stale = {"cookie": f"{NAME}={'0' * 64}"}
    token = await logged_in(edge, "/api")
    assert (await edge.client.get("/api" + READ, headers=stale, auth=BASIC)).status_code == 200
    assert (await edge.client.get("/api" + READ, headers=stale | {NAME: token})).status_code == 200
    assert (await edge.client.post(LOGIN["/api"], headers=stale, auth=BASIC)).status_code == 201
    reader = await edge.client.post(LOGIN["/api"], auth=(READER, PASSWORD))
    edge.client.cookies.clear()
    own = {"cookie": f"{NAME}={token}", NAME: reader.headers[NAME]}
    assert (await edge.client.post("/api" + CHANGE, headers=own)).status_code == 403


@PREFIXES
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_another_sites_page_cannot_use_it(
    edge: Edge, prefix: str, headers: dict[str, str]
) -> None:
    """A browser that does not know SameSite still sends the page's origin."""
    cookie = {"cookie": f"{NAME}={await logged_in(edge, prefix)}"}
    for method, path in (("POST", CHANGE), ("GET", READ)):
        done = await edge.client.request(method, prefix + path, headers=cookie | headers)
        assert done.status_code == 401
    assert edge.dispatcher.calls == []
    own = cookie | {"origin": "https://testserver", "sec-fetch-site": "same-origin"}
    done = await edge.client.post(prefix + CHANGE, headers=own, json={"planned": True})
    assert done.status_code < 300
