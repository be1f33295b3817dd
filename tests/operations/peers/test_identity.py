"""vc_spec is really checked: certificate, credentials, and what the peer manages."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.serving import serving
from tests.support.simulated.vcenter import BIOS, PASSWORD, Peer, peer_in

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.secret import Secret
from openvcha.api.structures import CertificateInfo
from openvcha.operations.peers.identity import ActiveNode, verify_peer
from openvcha.system.thumbprints import thumbprint_sha1, thumbprint_sha256


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    async with peer_in(tmp_path) as running:
        yield running


def ids(error: ApiError) -> list[str]:
    return [m.id.removeprefix("com.vmware.vcenter.vcha.") for m in error.messages]


async def test_every_way_to_name_the_right_certificate_is_accepted(peer: Peer) -> None:
    """SHA-1 or SHA-256, with or without colons, in any case; PEM; or the trust store."""
    der = peer.certificate.certificate
    for thumbprint in (thumbprint_sha1(der), thumbprint_sha256(der)):
        await peer.check(ssl_thumbprint=thumbprint)
        await peer.check(ssl_thumbprint=thumbprint.replace(":", "").lower())
    await peer.check(ssl_thumbprint=None, ssl_certificate=der.decode())
    await peer.check(peer.ca, ssl_thumbprint=None)


@pytest.mark.parametrize("wrong", ["00" * 20, ":".join(["00"] * 32)])
async def test_another_certificate_is_shown_to_the_caller(peer: Peer, wrong: str) -> None:
    """UNVERIFIED_PEER has the presented certificate, so that a person can compare."""
    error = await peer.refusal(ssl_thumbprint=wrong)
    assert error.error_type is ErrorType.UNVERIFIED_PEER
    assert isinstance(error.data, CertificateInfo)
    assert error.data.ssl_thumbprint == thumbprint_sha256(peer.certificate.certificate)
    assert error.data.ssl_certificate == peer.certificate.certificate.decode()


async def test_an_unknown_authority_is_not_trusted(peer: Peer) -> None:
    """Without thumbprint and certificate only the trust store decides."""
    error = await peer.refusal(ssl_thumbprint=None)
    assert error.error_type is ErrorType.UNVERIFIED_PEER


@pytest.mark.parametrize("wrong", [{"username": "nobody"}, {"password": Secret("wrong")}])
async def test_refused_credentials_are_an_invalid_argument(
    peer: Peer, wrong: dict[str, object]
) -> None:
    """A wrong password and an unknown user look the same, and show no password."""
    error = await peer.refusal(**wrong)
    assert error.error_type is ErrorType.INVALID_ARGUMENT
    assert ids(error) == ["invalid.credentials"]
    assert PASSWORD not in str(error)


async def test_a_vcenter_of_something_else_is_refused(peer: Peer) -> None:
    """The peer must manage this very active node."""
    peer.vcenter.bios = "somebody else's"
    assert ids(await peer.refusal()) == ["peer.not.manager"]


async def test_operations_that_have_a_not_found_say_that(peer: Peer) -> None:
    """As check and active.get document it."""
    peer.vcenter.bios = "somebody else's"
    active = ActiveNode(b"another", BIOS, None, unmanaged=ErrorType.NOT_FOUND)
    with pytest.raises(ApiError) as caught:
        await verify_peer(peer.spec(), active, seconds=2.0)
    assert caught.value.error_type is ErrorType.NOT_FOUND


async def test_a_web_server_is_no_vcenter(peer: Peer) -> None:
    """A server that answers anything else does not manage the active node."""
    peer.vcenter.is_vcenter = False
    error = await peer.refusal()
    assert error.error_type is ErrorType.INVALID_ARGUMENT
    assert ids(error) == ["peer.not.manager"]


@pytest.mark.parametrize("reply", [[], {"node1": "x"}, {"node1": {"runtime": {"placement": 1}}}])
async def test_whatever_a_peer_answers_breaks_nothing(peer: Peer, reply: object) -> None:
    """A stranger's answer is never an internal error."""
    peer.vcenter.reply = reply
    assert ids(await peer.refusal()) == ["peer.not.manager"]


async def test_a_session_that_is_no_header_is_refused(peer: Peer) -> None:
    """A token with line breaks or characters outside ASCII is not sent back."""
    peer.vcenter.token = "to\r\nken: \u00fc"
    with pytest.raises(ApiError) as caught:
        await peer.check()
    assert ids(caught.value) == ["peer.not.manager"]


async def test_a_peer_that_freezes_after_the_login_holds_nothing_up(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the query nor the logout waits for ever."""
    monkeypatch.setattr("openvcha.operations.peers.identity.LOG_OUT_SECONDS", 0.2)
    peer.vcenter.frozen = asyncio.Event()
    peer.patience = 2.0
    async with asyncio.timeout(30):
        with pytest.raises(ApiError) as caught:
            await peer.check()
    peer.vcenter.frozen.set()
    assert ids(caught.value) == ["peer.timeout"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        *(
            ({"hostname": name}, "peer.hostname")
            for name in ("", "a b", "a/b", "x@y", "a\0b", "a" * 64, ".", "fe80::1%lo", "a." * 200)
        ),
        ({"ssl_certificate": "x"}, "peer.certificate.ambiguous"),
        ({"ssl_thumbprint": "AA:BB"}, "peer.thumbprint.malformed"),
        ({"ssl_thumbprint": None, "ssl_certificate": "x"}, "peer.certificate.malformed"),
        ({"port": 0}, "peer.port"),
        ({"port": 70000}, "peer.port"),
        ({"username": None}, "peer.credentials.unset"),
        ({"password": None}, "peer.credentials.unset"),
    ],
)
async def test_a_specification_that_cannot_be_used_is_refused_unsent(
    peer: Peer, wrong: dict[str, object], said: str
) -> None:
    """No peer is called when the request itself is wrong."""
    error = await peer.refusal(**wrong)
    assert error.error_type is ErrorType.INVALID_ARGUMENT
    assert ids(error) == [said]


async def test_nobody_there_is_told_with_the_reason(peer: Peer) -> None:
    """A refused connection is an error that names the address."""
    async with serving(lambda _r, w: w.close()) as port:
        pass
    error = await peer.refusal(port=port)
    assert error.error_type is ErrorType.ERROR
    assert f"127.0.0.1:{port}" in str(error)


async def test_an_unreachable_ipv6_address_is_shown_in_brackets(peer: Peer) -> None:
    """Otherwise nobody can tell where the address ends and the port begins."""
    error = await peer.refusal(hostname="::1", port=1)
    assert ids(error) == ["peer.unreachable"]
    assert error.messages[0].args[0] == "[::1]:1"


async def test_a_silent_peer_costs_no_longer_than_the_deadline(peer: Peer) -> None:
    """A peer that accepts and never answers does not block the call."""
    peer.patience = 0.5
    async with serving(lambda *_: None) as port:
        error = await peer.refusal(port=port)
    assert ids(error) == ["peer.timeout"]


async def test_plain_text_is_not_tls(peer: Peer) -> None:
    """A peer without TLS is unreachable for us."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with serving(greet) as port:
        error = await peer.refusal(port=port)
    assert ids(error) == ["peer.unreachable"]


async def test_a_refusal_that_comes_after_the_handshake_is_told(peer: Peer, tmp_path: Path) -> None:
    """A peer that requires a client certificate says so with its first answer, below HTTP."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "api.crt", tmp_path / "api.key")
    tls.load_verify_locations(tmp_path / "ca.crt")
    tls.verify_mode = ssl.CERT_REQUIRED

    async with serving(lambda _r, w: w.close(), tls=tls) as port:
        error = await peer.refusal(port=port)
    assert error.error_type is ErrorType.ERROR
    assert ids(error) == ["peer.unreachable"]


async def test_an_answer_without_end_is_cut_off(peer: Peer) -> None:
    """What a stranger sends is bounded."""
    peer.vcenter.token = "x" * (2 << 20)
    with pytest.raises(ApiError) as caught:
        await peer.check()
    assert ids(caught.value) == ["peer.unreachable"]


async def test_a_peer_that_closes_after_each_answer_is_asked_all_the_same(peer: Peer) -> None:
    """Old servers do that; each further connection is verified like the first."""
    peer.vcenter.closes = True
    await peer.check()
