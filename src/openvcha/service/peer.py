"""Is the vCenter named in ``vc_spec`` who it claims to be, and does it manage the active node?

Source of the rules: the error descriptions of the redeploy operation. A certificate that does not
match is UNVERIFIED_PEER with the certificate that was met; credentials that are refused, or a peer
that does not manage the active node, are INVALID_ARGUMENT (the latter is NOT_FOUND where an
operation has that); a peer that cannot be reached is ERROR.
"""

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import CertificateInfo, ConnectionSpec, CredentialsSpec

DEFAULT_PORT = 443
PEER_SECONDS = 10.0
LOG_OUT_SECONDS = 2.0
_LONGEST_HOSTNAME = 253
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOSTNAME = re.compile(rf"(?=.{{1,{_LONGEST_HOSTNAME}}}$){_LABEL}(\.{_LABEL})*\.?")
_THUMBPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")


@dataclass(frozen=True)
class ActiveNode:
    """What a peer must know to count as the manager of the active node."""

    api_certificate: bytes
    """DER of the certificate that the active itself serves."""
    bios_uuid: str
    trust: Path | None
    """PEM file of authorities trusted beside the system's."""
    unmanaged: ErrorType = ErrorType.INVALID_ARGUMENT
    """What it is when the peer does not manage this node."""


async def verify_peer(
    spec: CredentialsSpec, active: ActiveNode, seconds: float = PEER_SECONDS
) -> None:
    """Check the peer, its certificate, the credentials and what it manages.

    Raises ApiError: INVALID_ARGUMENT, UNVERIFIED_PEER or ERROR as in the module's text.
    """
    where = spec.active_location
    matches = certificate_rule(where)
    _require_place(where)
    _require_credentials(where)
    host, port = where.hostname, where.port or DEFAULT_PORT
    try:
        async with asyncio.timeout(seconds):
            met = await _met_certificate(host, port)
            if not (matches(met) if matches else await _trusted(host, port, active.trust)):
                raise _unverified(host, met)
            await _log_in(where, host, port, met, active)
    except TimeoutError:
        raise ApiError(
            ErrorType.ERROR, message("peer.timeout", f"{host}:{port}", f"{seconds:g}")
        ) from None


def certificate_rule(where: ConnectionSpec) -> Callable[[bytes], bool] | None:
    """Give the test for the peer's certificate (DER); None means the trust store decides.

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
    wanted = text.replace(":", "").replace(" ", "").upper()
    if not _THUMBPRINT.fullmatch(wanted):
        raise ApiError(ErrorType.INVALID_ARGUMENT, message("peer.thumbprint.malformed"))
    # SHA-1 is what the API's clients send; it identifies here, it does not sign.
    digest = hashlib.sha1 if len(wanted) == 40 else hashlib.sha256
    return lambda der: hmac.compare_digest(digest(der).hexdigest().upper(), wanted)


def _pem_rule(pem: str) -> Callable[[bytes], bool]:
    try:
        wanted = ssl.PEM_cert_to_DER_cert(pem.strip() + "\n")
    except ValueError:
        raise ApiError(ErrorType.INVALID_ARGUMENT, message("peer.certificate.malformed")) from None
    return lambda der: hmac.compare_digest(der, wanted)


def thumbprint_sha256(der: bytes) -> str:
    """Write a certificate's SHA-256 as colon-separated upper-case hexadecimal."""
    return hashlib.sha256(der).digest().hex(":").upper()


def _require_place(where: ConnectionSpec) -> None:
    if not _HOSTNAME.fullmatch(where.hostname) and not _is_address(where.hostname):
        said = message("peer.hostname", repr(where.hostname[:_LONGEST_HOSTNAME]))
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


async def _met_certificate(host: str, port: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the certificate is compared by the caller
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, ssl.SSLError) as error:
        raise _unreachable(host, port, error) from error
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    met = tls.getpeercert(binary_form=True)
    writer.close()
    if met is None:
        raise _not_a_manager(host)
    return met


async def _trusted(host: str, port: int, trust: Path | None) -> bool:
    context = ssl.create_default_context()
    if trust is not None:
        context.load_verify_locations(cafile=trust)
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError:
        return False
    except OSError as error:
        raise _unreachable(host, port, error) from error
    writer.close()
    return True


async def _log_in(
    where: ConnectionSpec, host: str, port: int, met: bytes, active: ActiveNode
) -> None:
    name = f"[{host}]" if ":" in host else host
    async with httpx2.AsyncClient(
        base_url=f"https://{name}:{port}/api", verify=_pinned(met), trust_env=False, timeout=None
    ) as http:
        token = await _session(http, where)
        header = {"vmware-api-session-id": token}
        try:
            if met != active.api_certificate and not await _manages(http, header, active):
                raise ApiError(active.unmanaged, message("peer.not.manager", host))
        finally:
            await _log_out(http, header)


async def _log_out(http: httpx2.AsyncClient, header: dict[str, str]) -> None:
    """End the session, if that is possible; when not, it ends by itself."""
    with contextlib.suppress(ApiError, TimeoutError):
        async with asyncio.timeout(LOG_OUT_SECONDS):
            await _request(http, "DELETE", "/session", headers=header)


def _pinned(met: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(met))
    return context


async def _session(http: httpx2.AsyncClient, where: ConnectionSpec) -> str:
    password = where.password.reveal() if where.password else ""
    reply = await _request(http, "POST", "/session", auth=(where.username or "", password))
    if reply.status_code == 401:
        raise ApiError(ErrorType.INVALID_ARGUMENT, message("invalid.credentials", where.hostname))
    token = _json(reply)
    if reply.status_code not in {200, 201} or not isinstance(token, str):
        raise _not_a_manager(where.hostname)
    if not (token.isascii() and token.isprintable()):
        raise _not_a_manager(where.hostname)
    return token


async def _manages(http: httpx2.AsyncClient, header: dict[str, str], active: ActiveNode) -> bool:
    reply = await _request(
        http,
        "POST",
        "/vcenter/vcha/cluster?action=get",
        headers=header,
        json={"partial": False},
    )
    if reply.status_code != 200 or not active.bios_uuid:
        return False
    cluster = _json(reply)
    found = (_at(cluster, node, "runtime", "placement", "bios_uuid") for node in ("node1", "node2"))
    return active.bios_uuid in found


def _at(value: Any, *path: str) -> Any:
    """Follow a path of names into what somebody unknown has sent; None where it leads nowhere."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


async def _request(
    http: httpx2.AsyncClient, method: str, path: str, **options: Any
) -> httpx2.Response:
    try:
        return await http.request(method, path, **options)
    except (httpx2.HTTPError, OSError) as error:
        # A TLS alert that comes with the answer (a certificate is asked for) is the latter.
        port = http.base_url.port or DEFAULT_PORT
        raise _unreachable(http.base_url.host, port, error) from error


def _json(reply: httpx2.Response) -> Any:
    try:
        return reply.json()
    except ValueError:
        return None


def _not_a_manager(host: str) -> ApiError:
    return ApiError(ErrorType.INVALID_ARGUMENT, message("peer.not.manager", host))


def _unreachable(host: str, port: int, error: Exception) -> ApiError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ApiError(ErrorType.ERROR, message("peer.unreachable", f"{host}:{port}", str(reason)))
