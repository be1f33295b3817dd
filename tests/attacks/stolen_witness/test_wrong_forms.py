"""Valid JSON of a wrong form from the store: a stolen witness's etcd may say anything.

The caller gets StoreError with the reason, and never another exception: those end loops.
"""

import asyncio
import dataclasses
import inspect
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.simulated.endpoints import Request, answer, client

from openvcha.api.secret import Secret
from openvcha.node.patroni.patches.members import Voters
from openvcha.store.account import Account
from openvcha.store.errors import OutcomeUnknown, StoreError, StoreUnavailable
from openvcha.store.etcd.client import Etcd
from openvcha.store.etcd.users_and_roles import EtcdAccounts
from openvcha.store.etcd.watch import Watch
from openvcha.store.http.client import Reply
from openvcha.store.interface import Get, Permission, Put

PLACE = "http://127.0.0.1:1"
WHO = Account(name="data.a", password=Secret("p"))
Call = Callable[[Etcd], Awaitable[object]]
CALLS: Mapping[str, Call] = {
    "get": lambda etcd: etcd.get("/a"),
    "get_many": lambda etcd: etcd.get_many(["/a", "/a"]),
    "get_many_and_members": lambda etcd: etcd.get_many_and_members(["/a", "/a"]),
    "prefix": lambda etcd: etcd.prefix("/a/"),
    "snapshot": lambda etcd: etcd.snapshot("/a/"),
    "put": lambda etcd: etcd.put("/a", b""),
    "delete": lambda etcd: etcd.delete("/a"),
    "delete_prefix": lambda etcd: etcd.delete_prefix("/a/"),
    "txn": lambda etcd: etcd.txn([], [Put("/a", b""), Get("/a")]),
    "compact": lambda etcd: etcd.compact(1),
    "lease_grant": lambda etcd: etcd.lease_grant(5),
    "lease_keep_alive": lambda etcd: etcd.lease_keep_alive(5),
    "lease_remaining": lambda etcd: etcd.lease_remaining(5),
    "lease_revoke": lambda etcd: etcd.lease_revoke(5),
    "members": lambda etcd: etcd.members(),
    "refresh_endpoints": lambda etcd: etcd.refresh_endpoints(),
    "member_add": lambda etcd: etcd.member_add(["https://127.0.0.1:2"]),
    "member_remove": lambda etcd: etcd.member_remove(1),
    "member_promote": lambda etcd: etcd.member_promote(1),
    "move_leader": lambda etcd: etcd.move_leader(PLACE, 1),
    "members_without_space": lambda etcd: etcd.members_without_space(),
    "reclaim_space": lambda etcd: etcd.reclaim_space(PLACE),
    "defragment": lambda etcd: etcd.defragment(PLACE),
    "disarm_alarm": lambda etcd: etcd.disarm_alarm(frozenset({1})),
    "status": lambda etcd: etcd.status(PLACE),
    "healthy": lambda etcd: etcd.healthy(PLACE, 0.01),
    "accounts.enable_auth": lambda etcd: etcd.accounts.enable_auth(WHO),
    "accounts.grant_all": lambda etcd: etcd.accounts.grant_all(WHO),
    "accounts.revoke_others": lambda etcd: etcd.accounts.revoke_others(
        WHO, {"witness.b": [Permission("/a/", write=True)]}
    ),
    "accounts.list_names": lambda etcd: etcd.accounts.list_names(),
    "accounts.grant": lambda etcd: etcd.accounts.grant(WHO, [Permission("/a/", write=False)]),
    "accounts.delete": lambda etcd: etcd.accounts.delete("a"),
}
VALUE = {
    "key": b64encode(b"/a").decode(),
    "value": b64encode(b"v").decode(),
    "create_revision": "3",
    "mod_revision": "4",
    "version": "2",
    "lease": "7",
}
HONEST: dict[str, Any] = {
    "header": {"cluster_id": "17", "member_id": "18446744073709551615", "revision": "9"},
    "kvs": [VALUE],
    "deleted": "1",
    "succeeded": True,
    "responses": [{"response_put": {}}, {"response_range": {"kvs": [VALUE]}}],
    "ID": "12",
    "result": {"TTL": "5", "header": {"revision": "9"}, "events": [{"type": "PUT", "kv": VALUE}]},
    "member": {"ID": "1", "peerURLs": ["https://127.0.0.1:2"]},
    "members": [{"ID": "1", "name": "a", "clientURLs": [PLACE], "peerURLs": []}],
    "alarms": [{"memberID": "1", "alarm": "NOSPACE"}],
    "leader": "18446744073709551615",
    "version": "3.5.0",
    "dbSize": "20480",
    "errors": ["memberID:1 alarm:NOSPACE"],
    "token": "a.1",
    "users": ["root", "data.a", "other"],
    "roles": ["root", "other"],
    "perm": [{"permType": "READWRITE", "key": "L2E=", "range_end": "L2I="}],
}
ODD = [
    "",
    "0",
    "-1",
    "9" * 5000,
    "9" * 25,
    "९",
    "1_0",
    " 1",
    "AA=",
    "\u00e9",
    "a\r\nx: y",
    "https://[x",
]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(ODD)
)
NAMES = st.sampled_from(
    sorted({*HONEST, *VALUE, "error", "message", "code", "kv", "canceled", "x"})
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def lies(draw: st.DrawFn, honest: Any = HONEST) -> Any:
    """Replace one value in an honest member's answer with something else, or all of them."""
    if not isinstance(honest, dict | list) or not honest or draw(st.integers(0, 3)) == 0:
        return draw(ANYTHING)
    if isinstance(honest, list):
        return [draw(lies(honest[0])), *honest[1:]]
    name = draw(st.sampled_from(sorted(honest)))
    if draw(st.booleans()):
        return {each: value for each, value in honest.items() if each != name}
    return {**honest, name: draw(lies(honest[name]))}


class Wire:
    """A stand-in for the connections: every request gets this answer."""

    def __init__(self, said: Any, status: int = 200) -> None:
        self.reply = Reply(status, json.dumps(said).encode())

    async def request(self, *_: Any, **__: Any) -> Reply:
        return self.reply

    async def aclose(self) -> None:
        return None


def asked(name: str, said: Any, status: int = 200) -> object:
    """Call one method of a client that gets this answer."""

    async def work() -> object:
        async with Etcd([PLACE], None, timeout=0.001, account=lambda: WHO) as etcd:
            etcd._gateway._http = Wire(said, status)  # type: ignore[assignment]  # the network
            return await CALLS[name](etcd)

    return asyncio.run(work())


def typed(value: object) -> None:
    """Check what is returned against its own types."""
    for each in value if isinstance(value, list | tuple | frozenset) else [value]:
        if dataclasses.is_dataclass(each) and not isinstance(each, type):
            msgspec.convert(dataclasses.asdict(each), type(each))


def short(error: StoreError) -> None:
    """Check the length of a refusal: others store it and print it."""
    assert len(str(error)) < 2000


@pytest.mark.parametrize("name", ["get", "get_many", "get_many_and_members"])
def test_the_record_of_another_key_is_no_answer(name: str) -> None:
    """Its seal is valid for its own key: one user's record must not be taken for another's."""
    other = VALUE | {"key": b64encode(b"/b").decode()}
    said = HONEST | {"kvs": [other], "responses": [{"response_range": {"kvs": [other]}}] * 2}
    with pytest.raises(StoreUnavailable, match="expected the requested key"):
        asked(name, said)
    with pytest.raises(StoreUnavailable, match="expected one response per key"):
        asked("get_many", HONEST | {"responses": []})


def test_every_method_is_here() -> None:
    """A new one that reads etcd's answers belongs in the list."""
    found = {name for name, _ in inspect.getmembers(Etcd, inspect.iscoroutinefunction)}
    theirs = {name for name, _ in inspect.getmembers(EtcdAccounts, inspect.iscoroutinefunction)}
    known = {name for name in found if name[0] != "_"} - {"close"}
    known |= {f"accounts.{name}" for name in theirs if name[0] != "_"}
    assert known == set(CALLS)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_an_honest_answer_is_read(name: str) -> None:
    """The answer that the lies are derived from is valid for each of them."""
    if name != "accounts.enable_auth":  # it retries until no endpoint demands a login
        typed(asked(name, HONEST))


@pytest.mark.parametrize("name", sorted(CALLS))
@settings(max_examples=25, deadline=None)
@given(said=lies(), status=st.sampled_from([200, 200, 200, 400, 503]))
def test_a_lie_is_an_error_of_the_store(name: str, said: Any, status: int) -> None:
    """Unless the form is valid: then its content is believed."""
    try:
        typed(asked(name, said, status))
    except StoreError as error:
        short(error)


@settings(max_examples=100, deadline=None)
@given(said=lies())
def test_a_lie_ends_a_line_of_a_watch_only(said: Any) -> None:
    """The watch then leaves the endpoint, with an error of the store."""
    watch = Watch(Etcd([PLACE], None)._gateway, "/a", 0, 1.0)
    try:
        typed(watch._take(json.dumps(said).encode()))
    except StoreError as error:
        short(error)


@settings(max_examples=50, deadline=None)
@given(said=lies())
def test_a_lie_leaves_patroni_what_it_knew(said: Any) -> None:
    """Its loop goes on: the voters are those that were reported last."""

    class Dcs:
        def __init__(self) -> None:
            self._client = self

        def handle_auth_errors(self, *_: Any) -> Any:
            return said

    voters = Voters(lambda: None)
    voters.names = frozenset({"a"})
    voters.ask(Dcs())
    assert all(isinstance(name, str) for name in voters.names)


async def test_the_next_endpoint_is_asked() -> None:
    """A read moves on to an endpoint that answers well; a write is not repeated: it may be done."""
    lie = answer(200, {"header": [], "kvs": 7})
    async with client(lie, answer(200, {"header": {"revision": "7"}})) as etcd:
        assert await etcd.get("/a") is None
    async with client(lie, lie) as etcd:
        with pytest.raises(StoreUnavailable, match="kvs: expected a list"):
            await etcd.get("/a")
        with pytest.raises(OutcomeUnknown, match="header: expected an object"):
            await etcd.put("/a", b"")


async def test_a_watch_goes_on_elsewhere() -> None:
    """Its reader goes on."""
    event = {"kv": {**VALUE, "mod_revision": "5"}}

    async def liar(request: Request) -> None:
        await answer(200, {"result": {"events": [{"kv": 7}]}})(request)

    honest = answer(200, {"result": {"header": {"revision": "9"}, "events": [event]}})
    async with client(liar, honest) as etcd:
        changes = etcd.watch("/a")
        async with asyncio.timeout(30):
            [found] = await anext(changes)
        await changes.aclose()
    assert found.kv.mod_revision == 5


@pytest.mark.parametrize(
    "place",
    ["https://[x", "https://a\0b", f"https://{'a' * 70}.x", "https://a:99999", "nothing", ""],
)
async def test_a_place_that_is_none_is_unavailable(place: str) -> None:
    """Members announce their own client URLs."""
    async with Etcd([PLACE], None, timeout=0.2) as etcd:
        with pytest.raises(StoreUnavailable):
            await etcd.status(place)
        assert not await etcd.healthy(place, 0.2)
