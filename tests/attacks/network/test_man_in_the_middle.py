"""A man in the middle forwards some connections and answers others: he never sees a password."""

import asyncio
import base64
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from tests.support.attackers.man_in_the_middle import (
    OWN,
    PASS,
    TlsProxy,
    middle,
    own_certificate,
    server_tls,
)
from tests.support.simulated.vcenter import BIOS, PASSWORD, USER, Peer, peer_in

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.secret import Secret
from openvcha.api.structures import ConnectionSpec, CredentialsSpec
from openvcha.cli.node import manual_join
from openvcha.cli.target import Target
from openvcha.client.errors import CommandError, RequestRefused, ServerUnreachable
from openvcha.node.joining import JoinRequest
from openvcha.node.layout import API_CERTIFICATE, SERVICE_CA_CERTIFICATE
from openvcha.node.security.certificates import issue, new_authority
from openvcha.operations.peers.check import check_peer
from openvcha.operations.peers.connection import PeerConnection, PeerUnverified, Trust
from openvcha.operations.peers.identity import ActiveNode, verify_peer
from openvcha.system.thumbprints import thumbprint_sha1, thumbprint_sha256

PLANS = [plan for plan in itertools.product((PASS, OWN), repeat=4) if OWN in plan]
SECRETS = (PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(), "token-of-a-session")
KINDS = ("trust", "sha1", "sha256", "pem")


@dataclass
class AttackedPeer:
    """The real peer, and the files of its authority and of the man's certificate."""

    peer: Peer
    directory: Path

    def known_by(self, kind: str) -> dict[str, Any]:
        """Return the fields of vc_spec that identify the right certificate."""
        der = self.peer.certificate.certificate
        given: dict[str, dict[str, Any]] = {
            "trust": {"ssl_thumbprint": None},
            "sha1": {"ssl_thumbprint": thumbprint_sha1(der)},
            "sha256": {"ssl_thumbprint": thumbprint_sha256(der)},
            "pem": {"ssl_thumbprint": None, "ssl_certificate": der.decode()},
        }
        return given[kind]

    def man(self, *plan: str) -> contextlib.AbstractAsyncContextManager[tuple[TlsProxy, int]]:
        return middle(self.peer.port, plan, server_tls(self.directory))

    async def check(self, **changes: Any) -> None:
        active = ActiveNode(b"another", BIOS, trust=self.peer.ca)
        await verify_peer(self.peer.spec(**changes), active, seconds=60.0)


@pytest.fixture
async def attacked(tmp_path: Path) -> AsyncIterator[AttackedPeer]:
    own_certificate(tmp_path)
    async with peer_in(tmp_path) as peer:
        peer.vcenter.token = "token-of-a-session"
        yield AttackedPeer(peer, tmp_path)


def assert_blind(man: TlsProxy) -> None:
    seen = man.read.decode(errors="replace")
    assert not [secret for secret in SECRETS if secret in seen], f"he has read {seen!r}"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_password_of_vc_spec_goes_to_the_verified_peer_only(
    attacked: AttackedPeer, kind: str
) -> None:
    """Whichever connections he answers himself, and however the certificate is verified."""
    for plan in PLANS:
        async with attacked.man(*plan) as (man, port):
            with contextlib.suppress(ApiError):
                await attacked.check(**attacked.known_by(kind), port=port)
            assert_blind(man)


@pytest.mark.parametrize("kind", KINDS)
async def test_who_answers_the_first_connection_himself_is_told(
    attacked: AttackedPeer, kind: str
) -> None:
    """The check does not just fail: the caller learns whose certificate was presented."""
    async with attacked.man(OWN) as (man, port):
        with pytest.raises(ApiError) as caught:
            await attacked.check(**attacked.known_by(kind), port=port)
        assert caught.value.error_type is ErrorType.UNVERIFIED_PEER
        assert_blind(man)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_session_goes_to_no_one_else_when_a_connection_ends(
    attacked: AttackedPeer, kind: str
) -> None:
    """A connection that is reopened with the session's token is verified again."""
    attacked.peer.vcenter.closes = True
    async with attacked.man(PASS, OWN) as (man, port):
        with pytest.raises(ApiError) as caught:
            await attacked.check(**attacked.known_by(kind), port=port)
        assert caught.value.error_type is ErrorType.UNVERIFIED_PEER
        assert man.connections >= 2, "nothing was attacked"
        assert_blind(man)


async def test_a_later_connection_shows_what_the_first_one_showed(attacked: AttackedPeer) -> None:
    """Even where his certificate would be trusted too, e.g. one of the same authority."""
    attacked.peer.vcenter.closes = True
    trusting = Trust(lambda _: True, None)
    async with attacked.man(PASS, OWN) as (man, port):
        async with PeerConnection("127.0.0.1", port, trusting) as connection:
            login = {"authorization": f"Basic {SECRETS[1]}"}
            assert (await connection.request("POST", "/api/session", login)).status == 201
            with pytest.raises(PeerUnverified):
                await connection.request("GET", "/", {"session": "token-of-a-session"})
        assert man.connections == 2
        assert_blind(man)


@pytest.mark.parametrize("kind", KINDS)
async def test_who_only_passes_on_changes_nothing(attacked: AttackedPeer, kind: str) -> None:
    """The attacks above fail because of the certificate, not because nothing gets through."""
    async with attacked.man(PASS) as (man, port):
        await attacked.check(**attacked.known_by(kind), port=port)
        assert man.connections == 1, "one connection is checked and used"


async def test_no_redirect_takes_the_password_along(attacked: AttackedPeer) -> None:
    """Not even from the right peer, to one whose certificate would be trusted too."""
    tls = server_tls(attacked.directory, "api")
    async with middle(0, (OWN,), tls) as (man, port):
        attacked.peer.vcenter.redirect = f"https://127.0.0.1:{port}/api/session"
        with pytest.raises(ApiError):
            await attacked.check()
        assert man.connections == 0


async def test_no_proxy_of_the_environment_sees_it(
    attacked: AttackedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service connects to the peer directly, whatever its environment says."""
    async with middle(0, (OWN,), server_tls(attacked.directory)) as (man, port):
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        await attacked.check()
        assert man.connections == 0


@pytest.mark.parametrize("own", [True, False], ids=["own name", "other name"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
async def test_the_cluster_s_authority_counts_for_the_cluster_s_own_names_only(
    own: bool, host: str, tmp_path: Path
) -> None:
    """The thief of a data node can have it certify any name, also after an undeploy.

    So he poses as the vCenter of vc_spec, but not where the system's authorities decide alone. The
    first case, the cluster's own name, shows that his certificate is a good one.
    """
    authority = new_authority()
    names = ["127.83.1.10", "vcha-1", *(["127.0.0.1", "localhost"] if own else [])]
    api = issue(authority, names[0], names, client=False)
    his = issue(authority, "127.0.0.1", ["127.0.0.1", "localhost"], client=False)
    files = {API_CERTIFICATE: api.certificate, SERVICE_CA_CERTIFICATE: authority.certificate}
    files |= {"middle.crt": his.certificate, "middle.key": his.key}
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    where = ConnectionSpec(hostname=host, username=USER, password=Secret(PASSWORD))
    services: Any = SimpleNamespace(directory=tmp_path)
    seen: Any = SimpleNamespace(active=None)
    async with middle(0, (OWN,), server_tls(tmp_path)) as (man, port):
        spec = CredentialsSpec(active_location=replace(where, port=port))
        with pytest.raises(ApiError) as caught:
            await check_peer(services, seen, spec)
        if own:
            assert caught.value.error_type is not ErrorType.UNVERIFIED_PEER
            assert man.read
        else:
            assert caught.value.error_type is ErrorType.UNVERIFIED_PEER
            assert_blind(man)


@asynccontextmanager
async def authenticated_client(
    attacked: AttackedPeer, port: int, *, thumbprint: bool, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    monkeypatch.setattr("openvcha.cli.target.read_password", lambda *_: Secret(PASSWORD))
    known: dict[str, Any] = {"ca": attacked.peer.ca}
    if thumbprint:
        known = {"thumbprint": thumbprint_sha256(attacked.peer.certificate.certificate)}
    target = Target(server=f"https://127.0.0.1:{port}", user=USER, **known)
    async with target.api():
        yield


@pytest.mark.parametrize("thumbprint", [True, False])
async def test_the_command_line_logs_in_with_the_verified_server_only(
    attacked: AttackedPeer, thumbprint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--server` with `--thumbprint`, or with `--ca`."""
    for plan in PLANS:
        async with attacked.man(*plan) as (man, port):
            with contextlib.suppress(CommandError, RequestRefused, ServerUnreachable):
                async with authenticated_client(
                    attacked, port, thumbprint=thumbprint, monkeypatch=monkeypatch
                ):
                    pass
            assert_blind(man)


@pytest.mark.parametrize("thumbprint", [True, False])
async def test_a_join_token_goes_to_the_verified_server_only(
    attacked: AttackedPeer, thumbprint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`vcha node create` protects its token as carefully as a password."""
    monkeypatch.setattr(manual_join, "RETRY_LIMIT_SECONDS", 0.0)
    right = thumbprint_sha256(attacked.peer.certificate.certificate) if thumbprint else None
    for plan in PLANS:
        async with attacked.man(*plan) as (man, port):
            wanted = JoinRequest(
                server=f"https://127.0.0.1:{port}", role="witness", name="w", ha_address="127.1.1.1"
            )
            with contextlib.suppress(CommandError, RequestRefused, ServerUnreachable):
                ca = None if thumbprint else attacked.peer.ca
                await manual_join._join(wanted, Secret(PASSWORD), b"request", ca, right)
            assert_blind(man)


async def test_he_does_read_what_an_unverified_client_sends(attacked: AttackedPeer) -> None:
    """The man is a real one: a client that does not verify loses the password to him."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    async with attacked.man(OWN) as (man, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        writer.write(PASSWORD.encode())
        await reader.read(1)
        writer.transport.abort()
        with pytest.raises(AssertionError):
            assert_blind(man)
