"""A stand-in for a vCenter: it answers the few calls with which a peer is checked."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from openvcha.api.errors import ApiError
from openvcha.api.secret import Secret
from openvcha.api.structures import ConnectionSpec, CredentialsSpec
from openvcha.api_server.server.https import HttpsServer
from openvcha.node.security.certificates import KeyPair, api_certificate, new_authority
from openvcha.operations.peers.identity import ActiveNode, verify_peer
from openvcha.system.thumbprints import thumbprint_sha256

USER, PASSWORD = "administrator@vsphere.local", "correct horse"
BIOS = "bios-of-the-active"


class StandInVcenter:
    """A vCenter with the few calls that the check makes; it records which sessions stay open."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.bios = BIOS
        self.is_vcenter = True
        self.token = "token"
        self.reply: object = None
        self.frozen: asyncio.Event | None = None
        self.closes = False
        self.redirect: str | None = None
        self.app = Starlette(
            routes=[
                Route("/api/session", self.session, methods=["POST", "DELETE"]),
                Route("/api/vcenter/vcha/cluster", self.cluster, methods=["POST"]),
            ]
        )

    async def session(self, request: Request) -> Response:
        """Respond to a login or a logout."""
        if not self.is_vcenter:
            return PlainTextResponse("It works!")
        if self.redirect:
            return Response(status_code=307, headers={"location": self.redirect})
        if request.method == "DELETE":
            if self.frozen:
                await self.frozen.wait()
            self.open.discard(request.headers["vmware-api-session-id"])
            return Response(status_code=204)
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers["authorization"] != f"Basic {wanted}":
            return JSONResponse({"error_type": "UNAUTHENTICATED", "messages": []}, 401)
        self.open.add(self.token)
        return JSONResponse(self.token, 201, {"connection": "close"} if self.closes else None)

    async def cluster(self, request: Request) -> Response:
        """Respond to cluster.get, with the prepared reply."""
        del request
        if self.frozen:
            await self.frozen.wait()
        if self.reply is not None:
            return JSONResponse(self.reply)
        node = {"runtime": {"placement": {"bios_uuid": self.bios}}}
        return JSONResponse({"node1": node})


@dataclass
class Peer:
    """A running stand-in and how to name it."""

    vcenter: StandInVcenter
    port: int
    certificate: KeyPair
    ca: Path
    patience: float = 60.0

    def spec(self, **changes: object) -> CredentialsSpec:
        """Return the credentials of the peer; ``changes`` are fields of them."""
        fields: dict[str, object] = {
            "hostname": "127.0.0.1",
            "port": self.port,
            "username": USER,
            "password": Secret(PASSWORD),
            "ssl_thumbprint": thumbprint_sha256(self.certificate.certificate),
        }
        return CredentialsSpec(active_location=ConnectionSpec(**{**fields, **changes}))  # type: ignore[arg-type]  # the tests name the fields

    async def refusal(self, **changes: object) -> ApiError:
        """Return the error with which the peer is refused."""
        with pytest.raises(ApiError) as caught:
            await self.check(None, **changes)
        assert not self.vcenter.open, "a session was left behind"
        return caught.value

    async def check(self, trust: Path | None = None, /, **changes: object) -> None:
        """Run the check, for at most its ``patience`` (seconds)."""
        active = ActiveNode(api_certificate=b"another", bios_uuid=BIOS, trust=trust)
        await verify_peer(self.spec(**changes), active, seconds=self.patience)
        assert not self.vcenter.open, "a session was left behind"


@asynccontextmanager
async def peer_in(tmp_path: Path) -> AsyncIterator[Peer]:
    """Run a peer; its files are in a directory."""
    authority = new_authority()
    pair = api_certificate(authority, "127.0.0.1", "localhost")
    for name, data in (("crt", pair.certificate), ("key", pair.key)):
        (tmp_path / f"api.{name}").write_bytes(data)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    vcenter = StandInVcenter()
    server = HttpsServer(vcenter.app, tmp_path / "api.crt", tmp_path / "api.key")
    _, port = await server.start("127.0.0.1", 0)
    yield Peer(vcenter, port, pair, tmp_path / "ca.crt")
    await server.stop()
