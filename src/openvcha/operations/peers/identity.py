"""Verification of the vCenter in ``vc_spec``: its identity, and that it manages the active.

Source of the rules: the error descriptions of the redeploy operation. A certificate that does not
match is UNVERIFIED_PEER, with the certificate that the peer presented; rejected credentials, or a
peer that does not manage the active node, are INVALID_ARGUMENT (the latter is NOT_FOUND in
operations that declare it); a peer that cannot be reached is ERROR.
"""

import asyncio
import base64
import contextlib
import hmac
import ipaddress
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import CertificateInfo, ConnectionSpec, CredentialsSpec
from openvcha.operations.peers.connection import (
    PeerConnection,
    PeerResponse,
    PeerUnreachable,
    PeerUnverified,
    Trust,
)
from openvcha.store import bounded_json
from openvcha.system.network.host_port import host_port
from openvcha.system.thumbprints import has_thumbprint, thumbprint_sha256

DEFAULT_PORT = 443
PEER_SECONDS = 10.0
LOG_OUT_SECONDS = 2.0
MAX_HOSTNAME_CHARACTERS = 253
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
THUMBPRINT = re.compile(r"[: ]*(?:(?:[0-9A-Fa-f][: ]*){40}|(?:[0-9A-Fa-f][: ]*){64})")
"""SHA-1 or SHA-256, with any grouping of the digits."""


@dataclass(frozen=True)
class ActiveNode:
    """What a peer must know about the active to count as its manager."""

    api_certificate: bytes
    """DER of the certificate that the active itself serves."""
    bios_uuid: str
    trust: Path | None
    """PEM file of authorities that are trusted besides the system's."""
    unmanaged: ErrorType = ErrorType.INVALID_ARGUMENT
    """The error when the peer does not manage this node."""


async def verify_peer(
    spec: CredentialsSpec, active: ActiveNode, seconds: float = PEER_SECONDS
) -> None:
    """Verify the peer's certificate, the credentials, and that it manages the active.

    Raises ApiError: INVALID_ARGUMENT, UNVERIFIED_PEER or ERROR, by the rules of this module.
    """
    where = spec.active_location
    matches = require_usable(spec)
    host, port = where.hostname, where.port or DEFAULT_PORT
    peer = PeerConnection(host, port, Trust(matches, active.trust))
    try:
        async with asyncio.timeout(seconds):
            await _log_in(where, peer, active)
    except PeerUnverified as unverified:
        raise _unverified(host, unverified.met) from None
    except PeerUnreachable as error:
        raise ApiError(
            ErrorType.ERROR, message("peer.unreachable", host_port(host, port), str(error))
        ) from error
    except TimeoutError:
        raise ApiError(
            ErrorType.ERROR, message("peer.timeout", host_port(host, port), f"{seconds:g}")
        ) from None


def require_usable(spec: CredentialsSpec) -> Callable[[bytes], bool] | None:
    """Return ``certificate_rule`` of a usable spec. Raises ApiError INVALID_ARGUMENT otherwise."""
    where = spec.active_location
    matches = certificate_rule(where)
    _require_place(where)
    _require_credentials(where)
    return matches


def certificate_rule(where: ConnectionSpec) -> Callable[[bytes], bool] | None:
    """Return the test for the peer's certificate (DER); None: the trust store decides.

    Raises ApiError INVALID_ARGUMENT when the specification itself cannot be used.
    """
    if where.ssl_thumbprint and where.ssl_certificate:
        raise ApiError(ErrorType.INVALID_ARGUMENT, message("peer.certificate.ambiguous"))
    if where.ssl_thumbprint:
        return _thumbprint_rule(where.ssl_thumbprint)
    if where.ssl_certificate:
        return _pem_rule(where.ssl_certificate)
    return None


def _thumbprint_rule(text: str) -> Callable[[bytes], bool]:
    if not THUMBPRINT.fullmatch(text):
        raise ApiError(ErrorType.INVALID_ARGUMENT, message("peer.thumbprint.malformed"))
    return partial(has_thumbprint, thumbprint=text)


def _pem_rule(pem: str) -> Callable[[bytes], bool]:
    try:
        wanted = ssl.PEM_cert_to_DER_cert(pem.strip() + "\n")
    except ValueError:
        raise ApiError(ErrorType.INVALID_ARGUMENT, message("peer.certificate.malformed")) from None
    return lambda der: hmac.compare_digest(der, wanted)


def _require_place(where: ConnectionSpec) -> None:
    name = where.hostname
    fits = len(name) <= MAX_HOSTNAME_CHARACTERS and HOSTNAME.fullmatch(name)
    if not fits and not _is_address(name):
        said = message("peer.hostname", repr(name[:MAX_HOSTNAME_CHARACTERS]))
        raise ApiError(ErrorType.INVALID_ARGUMENT, said)
    if where.port is not None and not 0 < where.port < 65536:
        raise ApiError(ErrorType.INVALID_ARGUMENT, message("peer.port", str(where.port)))


def _is_address(text: str) -> bool:
    try:
        return not getattr(ipaddress.ip_address(text), "scope_id", None)
    except ValueError:
        return False


def _require_credentials(where: ConnectionSpec) -> None:
    for name, value in (("username", where.username), ("password", where.password)):
        if not value:
            raise ApiError(ErrorType.INVALID_ARGUMENT, message("peer.credentials.unset", name))


def _unverified(host: str, met: bytes) -> ApiError:
    data = CertificateInfo(
        ssl_thumbprint=thumbprint_sha256(met), ssl_certificate=ssl.DER_cert_to_PEM_cert(met)
    )
    return ApiError(ErrorType.UNVERIFIED_PEER, message("peer.unverified", host), data=data)


async def _log_in(where: ConnectionSpec, peer: PeerConnection, active: ActiveNode) -> None:
    async with peer:
        header = {"vmware-api-session-id": await _session(peer, where)}
        try:
            own = peer.certificate == active.api_certificate
            if not own and not await _manages(peer, header, active):
                raise ApiError(active.unmanaged, message("peer.not.manager", where.hostname))
        finally:
            await _log_out(peer, header)


async def _log_out(peer: PeerConnection, header: dict[str, str]) -> None:
    """End the session if possible; otherwise it expires."""
    with contextlib.suppress(PeerUnreachable, PeerUnverified, TimeoutError):
        async with asyncio.timeout(LOG_OUT_SECONDS):
            await peer.request("DELETE", "/api/session", header)


async def _session(peer: PeerConnection, where: ConnectionSpec) -> str:
    password = where.password.reveal() if where.password else ""
    pair = base64.b64encode(f"{where.username or ''}:{password}".encode()).decode()
    reply = await peer.request("POST", "/api/session", {"authorization": f"Basic {pair}"})
    if reply.status == 401:
        raise ApiError(ErrorType.INVALID_ARGUMENT, message("invalid.credentials", where.hostname))
    token = _json(reply)
    if reply.status not in {200, 201} or not isinstance(token, str):
        raise _not_a_manager(where.hostname)
    if not (token.isascii() and token.isprintable()):
        raise _not_a_manager(where.hostname)
    return token


async def _manages(peer: PeerConnection, header: dict[str, str], active: ActiveNode) -> bool:
    reply = await peer.request(
        "POST",
        "/api/vcenter/vcha/cluster?action=get",
        header | {"content-type": "application/json"},
        b'{"partial": false}',
    )
    if reply.status != 200 or not active.bios_uuid:
        return False
    cluster = _json(reply)
    found = (_at(cluster, node, "runtime", "placement", "bios_uuid") for node in ("node1", "node2"))
    return active.bios_uuid in found


def _at(value: Any, *path: str) -> Any:
    """Return the value at a path of names in foreign JSON; None if there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _json(reply: PeerResponse) -> Any:
    try:
        return bounded_json.decode(reply.body, object)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _not_a_manager(host: str) -> ApiError:
    return ApiError(ErrorType.INVALID_ARGUMENT, message("peer.not.manager", host))
