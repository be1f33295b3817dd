"""Sessions: how they begin, last and end, in each protocol and in the store."""

import re
from datetime import timedelta

import pytest
from tests.support.edge import ADMINISTRATOR, NOBODY, PASSWORD, Edge, make_edge

from openvcha.api.errors import ApiError
from openvcha.api.secret import Secret
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.sessions import Sessions
from openvcha.store import keys

BASIC = (ADMINISTRATOR, PASSWORD)
LEGACY = "/rest/com/vmware/cis/session"
READ = "/api/vcenter/vcha/operations"


async def status(edge: Edge, token: str) -> int:
    response = await edge.client.get(READ, headers={"vmware-api-session-id": token})
    return int(response.status_code)


async def test_rest_session_from_login_to_logout(edge: Edge) -> None:
    """201 with the bare token, in the header too; 200 for get; 204 for delete; then 401."""
    created = await edge.client.post("/api/session", auth=BASIC)
    token = created.json()
    assert created.status_code == 201
    assert created.headers["vmware-api-session-id"] == token
    assert created.headers["content-type"] == "application/json"
    assert re.fullmatch(r"\w{43,}", token)
    header = {"vmware-api-session-id": token}
    edge.clock.advance(minutes=1)
    got = await edge.client.get("/api/session", headers=header)
    assert got.json() == {
        "user": ADMINISTRATOR,
        "created_time": "2026-11-23T07:30:00.000Z",
        "last_accessed_time": "2026-11-23T07:31:00.000Z",
    }
    assert await status(edge, token) == 200
    deleted = await edge.client.delete("/api/session", headers=header)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert await status(edge, token) == 401
    assert (await edge.client.delete("/api/session", headers=header)).status_code == 401


@pytest.mark.parametrize(
    "ask", [("GET", LEGACY), ("POST", LEGACY + "?action=get"), ("POST", LEGACY + "?~action=get")]
)
async def test_legacy_session_from_login_to_logout(edge: Edge, ask: tuple[str, str]) -> None:
    """Every answer is exactly 200, with the value wrapped; the token works on /api too."""
    created = await edge.client.post(LEGACY, auth=BASIC)
    token = created.json()["value"]
    assert created.status_code == 200
    assert created.headers["vmware-api-session-id"] == token
    header = {"vmware-api-session-id": token}
    got = await edge.client.request(*ask, headers=header)
    assert got.status_code == 200
    assert got.json()["value"]["user"] == ADMINISTRATOR
    assert await status(edge, token) == 200
    deleted = await edge.client.delete(LEGACY, headers=header)
    assert (deleted.status_code, deleted.json()) == (200, {"value": None})
    assert await status(edge, token) == 401


async def test_the_path_of_each_form_is_its_own(edge: Edge) -> None:
    """/rest/session and /api/com/vmware/cis/session do not exist."""
    assert (await edge.client.post("/rest/session", auth=BASIC)).status_code == 404
    assert (await edge.client.post("/api/com/vmware/cis/session", auth=BASIC)).status_code == 404


async def test_logging_in_is_what_passwords_are_for(edge: Edge) -> None:
    """A session cannot create another; with a password an old session's header is ignored."""
    header = await edge.headers()
    assert (await edge.client.post("/api/session", headers=header)).status_code == 401
    stale = {"vmware-api-session-id": "0" * 64}
    created = await edge.client.post("/api/session", headers=stale, auth=BASIC)
    assert created.status_code == 201
    assert (await edge.client.get("/api/session", auth=BASIC)).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"vmware-api-session-id": "0" * 64},
        {"vmware-api-session-id": "../users/x"},
        {"authorization": "Basic"},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic YWJj"},
        {"authorization": "Bearer abc"},
    ],
)
async def test_without_good_credentials_it_is_401_with_a_challenge(
    edge: Edge, headers: dict[str, str]
) -> None:
    """None, unknown, malformed, or of another kind."""
    response = await edge.client.get(READ, headers=headers)
    body = response.json()
    assert (response.status_code, body["error_type"]) == (401, "UNAUTHENTICATED")
    assert body["messages"][0]["id"] == "com.vmware.vapi.endpoint.method.authentication.required"
    assert response.headers["www-authenticate"] == body["challenge"]


async def test_only_the_hash_of_a_token_is_kept(edge: Edge) -> None:
    """A reader of the store cannot use a session."""
    token = await edge.token()
    stored = repr(await edge.store.prefix("/"))
    assert token not in stored
    assert len(await edge.store.prefix(keys.SESSIONS)) == 1


async def test_tokens_are_made_of_256_random_bits(edge: Edge) -> None:
    """32 bytes come from the source of randomness."""
    asked: list[int] = []

    def random(size: int) -> bytes:
        asked.append(size)
        return b"\xab" * size

    sessions = Sessions(edge.store, edge.users, clock=edge.clock, random=random)
    user = await edge.users.find(ADMINISTRATOR)
    assert user is not None
    assert (await sessions.create(user)).reveal() == "ab" * 32
    assert asked == [32]


async def test_an_idle_session_ends_after_half_an_hour(edge: Edge) -> None:
    """Used every 29 minutes it stays valid; after more than 30 without use it expires."""
    token = await edge.token()
    for _ in range(5):
        edge.clock.advance(minutes=29)
        assert await status(edge, token) == 200
    edge.clock.advance(minutes=30, seconds=1)
    assert await status(edge, token) == 401


async def test_no_session_lives_longer_than_a_day(edge: Edge) -> None:
    """However much it is used."""
    token = await edge.token()
    for _ in range(24 * 4):
        edge.clock.advance(minutes=15)
        assert await status(edge, token) == 200
    edge.clock.advance(seconds=1)
    assert await status(edge, token) == 401


async def test_the_time_of_the_last_access_is_written_rarely(edge: Edge) -> None:
    """Polling each second does not write each second."""
    token = await edge.token()
    before = edge.store.revision
    for _ in range(60):
        edge.clock.advance(seconds=1)
        assert await status(edge, token) == 200
    assert edge.store.revision - before == 2


async def test_sessions_outlive_the_process(edge: Edge) -> None:
    """Another API over the same store accepts them: after a restart, and after a failover."""
    token = await edge.token()
    restarted = await make_edge(edge.store)
    async with restarted.client:
        assert await status(restarted, token) == 200


async def test_a_removed_user_has_no_sessions(edge: Edge) -> None:
    """Not even when a user of that name is added again."""
    token = await edge.token()
    await edge.users.add("another", Secret(PASSWORD), UserRole.ADMINISTRATOR)
    await edge.users.remove(ADMINISTRATOR)
    assert await status(edge, token) == 401
    await edge.users.add(ADMINISTRATOR, Secret(PASSWORD), UserRole.ADMINISTRATOR)
    assert await status(edge, token) == 401


async def test_another_password_ends_the_sessions(edge: Edge) -> None:
    """A holder of the old password is logged out, by session and by Basic."""
    token = await edge.token()
    assert (await edge.client.get(READ, auth=BASIC)).status_code == 200
    await edge.users.passwd(ADMINISTRATOR, Secret("another-password"))
    assert await status(edge, token) == 401
    assert (await edge.client.get(READ, auth=BASIC)).status_code == 401


async def test_another_role_holds_at_once(edge: Edge) -> None:
    """In open sessions."""
    token = await edge.token(NOBODY)
    assert await status(edge, token) == 403
    await edge.users.set_role(NOBODY, UserRole.READ_ONLY)
    assert await status(edge, token) == 200
    await edge.users.set_role(NOBODY, UserRole.NO_ACCESS)
    assert await status(edge, token) == 403


async def test_the_limits_can_be_configured(edge: Edge) -> None:
    """The idle and the absolute limit are parameters."""
    sessions = Sessions(
        edge.store,
        edge.users,
        clock=edge.clock,
        idle=timedelta(minutes=1),
        absolute=timedelta(minutes=2),
    )
    user = await edge.users.find(ADMINISTRATOR)
    assert user is not None
    token = await sessions.create(user)
    edge.clock.advance(seconds=60)
    assert (await sessions.resolve(token)).user.name == ADMINISTRATOR
    edge.clock.advance(seconds=61)
    with pytest.raises(ApiError, match="UNAUTHENTICATED"):
        await sessions.resolve(token)


async def test_a_session_that_is_over_leaves_nothing_in_the_store(edge: Edge) -> None:
    """Deleting it deletes its lease and its key."""
    token = await edge.token()
    digest = (await edge.sessions.resolve(Secret(token))).hash
    await edge.sessions.delete(digest)
    assert await edge.store.prefix(keys.SESSIONS) == []
