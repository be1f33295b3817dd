"""The check of ``vc_spec``, the vCenter that manages the nodes."""

import asyncio
import ssl
from pathlib import Path

from openvcha.api.errors import ErrorType
from openvcha.api.structures import CredentialsSpec
from openvcha.cluster.observing.observation import Observation
from openvcha.node.layout import API_CERTIFICATE, SERVICE_CA_CERTIFICATE
from openvcha.node.security.certificates import names_host
from openvcha.operations.context import Services
from openvcha.operations.peers.identity import ActiveNode, require_usable, verify_peer


def require_usable_peer(vc_spec: CredentialsSpec | None) -> None:
    """Raise ApiError INVALID_ARGUMENT if ``vc_spec`` is unusable, without contacting a server."""
    if vc_spec is not None:
        require_usable(vc_spec)


async def check_peer(
    services: Services,
    seen: Observation,
    vc_spec: CredentialsSpec | None,
    unmanaged: ErrorType = ErrorType.INVALID_ARGUMENT,
) -> None:
    """Verify the management vCenter; unset means that the cluster manages itself.

    ``unmanaged`` is the error when the peer does not manage the active node: NOT_FOUND in
    operations that declare it. The cluster's own authority is trusted for the cluster's own
    names only, those of the API's certificate.

    Raises ApiError as ``identity.verify_peer`` does.
    """
    if vc_spec is None:
        return
    active = seen.active
    own = await asyncio.to_thread(_own_certificate, services.directory)
    # A data node has the key of the cluster's authority: whoever copied it could pose as any host.
    is_own = names_host(own, vc_spec.active_location.hostname)
    await verify_peer(
        vc_spec,
        ActiveNode(
            api_certificate=own,
            bios_uuid=active.config.bios_uuid if active else "",
            trust=services.directory / SERVICE_CA_CERTIFICATE if is_own else None,
            unmanaged=unmanaged,
        ),
    )


def _own_certificate(directory: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert((directory / API_CERTIFICATE).read_text())
