"""The call with which a node joins: what ends it, and what does not."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.join_api import ADDRESS, TOKEN, JoinApi, refused, serving_joins
from tests.support.serving import serving

from openvcha.api.secret import Secret
from openvcha.client.errors import RequestRefused, ServerUnreachable, ServerUntrusted
from openvcha.client.trust import tls_by_authority, tls_by_authority_thumbprint
from openvcha.node.identity import IDENTITY
from openvcha.node.join_client import JoinCall, is_refusal, may_pass, receive_files
from openvcha.node.joining import JoinRequest
from openvcha.node.security.certificates import new_authority, signing_request
from openvcha.system.thumbprints import thumbprint_sha1, thumbprint_sha256

WANTED = JoinRequest(server="", role="passive", name="n", ha_address=ADDRESS)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[JoinApi]:
    async with serving_joins(tmp_path) as served:
        yield served


def call_of(api: JoinApi, *servers: str) -> JoinCall:
    async def tls(_: str) -> ssl.SSLContext:
        return tls_by_authority(api.tls.authority)

    request = signing_request(ADDRESS).certificate
    return JoinCall(servers or (api.url,), tls, WANTED, Secret(TOKEN), request)


class Pauses:
    """Pauses that take no time."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


async def test_it_repeats_what_may_pass_and_says_each_reason_once(api: JoinApi) -> None:
    """A pause comes before each repetition."""
    api.replies += [refused("RESOURCE_BUSY", "a"), refused("RESOURCE_BUSY", "a")]
    api.replies += [refused("SERVICE_UNAVAILABLE", "b")]
    said: list[str] = []
    pauses = Pauses()
    files = await receive_files(call_of(api), tell=said.append, pause=pauses)
    assert IDENTITY in files
    assert said == ["RESOURCE_BUSY: a", "SERVICE_UNAVAILABLE: b"]
    assert (len(api.calls), len(pauses.taken)) == (4, 3)
    assert len({str(call) for call in api.calls}) == 1


async def test_it_goes_from_server_to_server(api: JoinApi) -> None:
    """Until one answers; the servers that do not are named."""
    said: list[str] = []
    call = call_of(api, "https://127.0.0.1:1", api.url)
    assert IDENTITY in await receive_files(call, tell=said.append, pause=Pauses())
    (reason,) = said
    assert "https://127.0.0.1:1" in reason


@pytest.mark.parametrize(
    ("kind", "final"),
    [
        ("INVALID_ARGUMENT", True),
        ("NOT_ALLOWED_IN_CURRENT_STATE", True),
        ("ERROR", False),
        ("INTERNAL_SERVER_ERROR", False),
    ],
)
async def test_a_refusal_ends_it(api: JoinApi, kind: str, final: bool) -> None:
    """Only the cluster's verdict on the token is one."""
    api.replies.append(refused(kind))
    with pytest.raises(RequestRefused) as caught:
        await receive_files(call_of(api), pause=Pauses())
    assert is_refusal(caught.value) is final
    assert not may_pass(caught.value)


async def test_it_gives_up_in_time(api: JoinApi) -> None:
    """With the last reason."""
    api.replies += [refused("RESOURCE_BUSY", "still")] * 3
    with pytest.raises(RequestRefused, match="still"):
        await receive_files(call_of(api), seconds=0.0, pause=Pauses())
    assert len(api.calls) == 1


@pytest.mark.parametrize("body", [[], {"files": {"a": 1}}, {"member": "x"}])
async def test_what_is_no_answer_is_no_node(api: JoinApi, body: Any) -> None:
    """A server of another version may send anything."""
    api.replies.append((200, body))
    with pytest.raises(ServerUnreachable, match="sent no files"):
        await receive_files(call_of(api), seconds=0.0, pause=Pauses())


async def test_the_authority_s_thumbprint_identifies_the_server(api: JoinApi) -> None:
    """It sends the authority's certificate, and its own names its address."""
    right = thumbprint_sha256(api.tls.authority.read_bytes())
    port = int(api.url.rpartition(":")[2])

    async def tls(_: str) -> ssl.SSLContext:
        return await tls_by_authority_thumbprint("127.0.0.1", port, right)

    call = JoinCall((api.url,), tls, WANTED, Secret(TOKEN), signing_request(ADDRESS).certificate)
    assert IDENTITY in await receive_files(call, pause=Pauses())
    wrong = thumbprint_sha256(new_authority().certificate)
    with pytest.raises(ServerUntrusted, match="not certified"):
        await tls_by_authority_thumbprint("127.0.0.1", port, wrong)


async def test_only_an_authority_counts_as_one(api: JoinApi) -> None:
    """Neither the server's own certificate, nor a shorter thumbprint."""
    port = int(api.url.rpartition(":")[2])
    leaf = thumbprint_sha256(api.tls.certificate.read_bytes())
    context = await tls_by_authority_thumbprint("127.0.0.1", port, leaf)
    call = JoinCall((api.url,), _always(context), WANTED, Secret(TOKEN), b"request")
    with pytest.raises(ServerUntrusted):
        await receive_files(call, pause=Pauses())
    assert api.calls == []
    short = thumbprint_sha1(api.tls.authority.read_bytes())
    with pytest.raises(ServerUntrusted):
        await tls_by_authority_thumbprint("127.0.0.1", port, short)


def _always(context: ssl.SSLContext) -> Any:
    async def tls(_: str) -> ssl.SSLContext:
        return context

    return tls


async def test_a_server_without_tls_is_unreachable() -> None:
    """Its answer decides nothing."""
    async with serving(lambda _, writer: writer.close()) as port:
        with pytest.raises(ServerUnreachable, match="cannot be reached"):
            await tls_by_authority_thumbprint("127.0.0.1", port, "AA" * 32)
