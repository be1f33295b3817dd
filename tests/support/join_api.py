"""The API at which nodes join, SIMULATED behind a real TLS socket."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.types import Receive, Scope, Send
from tests.support.edge import TlsFiles, make_tls

from openvcha.api.secret import Secret
from openvcha.api.structures import IpFamily, IpSpec, Ipv4Spec
from openvcha.api_server.server.https import HttpsServer
from openvcha.infrastructure.boot import BOOT_FILE, Boot, encode_boot
from openvcha.node.identity import IDENTITY
from openvcha.node.layout import CA_CERTIFICATE, NODE_CERTIFICATE
from openvcha.node.security.certificates import KeyPair, certify, new_authority, requested_key
from openvcha.system.files.durable import write_durably
from openvcha.system.thumbprints import thumbprint_sha256

ADDRESS = "127.83.2.12"
TOKEN = "secret-of-the-boot-file"
IDENTITY_CONTENT = b'{"member":"n-1"}'
Reply = tuple[int, Any]


def refused(kind: str, text: str = "no") -> Reply:
    """Return a standard error."""
    return 400, {"error_type": kind, "messages": [{"id": "x", "default_message": text, "args": []}]}


@dataclass
class JoinApi:
    """What answers: ``replies`` first, then the files that the node requests."""

    tls: TlsFiles
    replies: list[Reply] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    authority: KeyPair = field(default_factory=new_authority)
    url: str = ""
    on_call: Callable[[], object] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        assert (scope["method"], scope["path"]) == ("POST", "/api/openvcha/joins")
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        self.calls.append(json.loads(content))
        self.on_call()
        status, body = self.replies.pop(0) if self.replies else (200, self.files())
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    def files(self) -> dict[str, Any]:
        """Return the answer to the last call: a certificate for its key, and an identity."""
        request = self.calls[-1]["certificate_request"].encode()
        certificate = certify(self.authority, "n-1", ADDRESS, requested_key(request, ADDRESS))
        files = {
            IDENTITY: IDENTITY_CONTENT,
            NODE_CERTIFICATE: certificate,
            CA_CERTIFICATE: self.authority.certificate,
        }
        texts = {path: content.decode() for path, content in files.items()}
        return {"member": "n-1", "task": "t", "files": texts}

    def boot(self, **changes: Any) -> Boot:
        """Return the boot file of a passive that is to join here; ``changes`` are fields of it."""
        fields: dict[str, Any] = {
            "join": (self.url,),
            "token": Secret(TOKEN),
            "authority_sha256": thumbprint_sha256(self.tls.authority.read_bytes()),
            "role": "passive",
            "name": "vcha-new",
            "ha_ip": IpSpec(ip_family=IpFamily.IPV4, ipv4=Ipv4Spec(address=ADDRESS, prefix=24)),
        }
        return Boot(**fields | changes)

    def prepare(self, directory: Path, **changes: Any) -> Path:
        """Write the boot file into a new node's directory, and return its path."""
        directory.mkdir(exist_ok=True)
        write_durably(directory / BOOT_FILE, encode_boot(self.boot(**changes)))
        return directory / BOOT_FILE


@asynccontextmanager
async def serving_joins(directory: Path, *replies: Reply) -> AsyncIterator[JoinApi]:
    """Serve the API during a block, with certificates in a directory of its own."""
    files = directory / "api"
    files.mkdir()
    api = JoinApi(make_tls(files), list(replies))
    server = HttpsServer(api, api.tls.certificate, api.tls.key, authority=api.tls.authority)
    _, port = await server.start("127.0.0.1", 0)
    api.url = f"https://127.0.0.1:{port}"
    try:
        yield api
    finally:
        await server.stop()
