"""The identity and the files of a cluster's first node. Pure, but for the keys that it makes."""

import re
import secrets
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from openvcha.api.secret import Secret
from openvcha.node.etcd.account import new_data_account
from openvcha.node.etcd.member import peer_url
from openvcha.node.identity import IDENTITY, Identity, Secrets
from openvcha.node.security.certificates import api_certificate, new_authorities
from openvcha.node.security.issuing import node_files

SECRET_BYTES: Final = 24
MADE = ("superuser", "replication", "rewind", "patroni_rest", "records")
"""The secrets of a cluster that nobody chooses."""
_LONGEST_MEMBER = 40


def new_member(name: str, token: Callable[[int], str] = secrets.token_hex) -> str:
    """Return a name in etcd and Patroni for a node; no other incarnation has the same."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST_MEMBER]
    return f"{plain}-{token(3)}"


def alone(wanted: Identity) -> Identity:
    """Return the identity as that of the only member of a new cluster."""
    return replace(wanted, etcd_initial_cluster={wanted.member: peer_url(wanted)})


def new_secrets(
    application: Secret | None, token: Callable[[int], str] = secrets.token_urlsafe
) -> Secrets:
    """Return the secrets of a new cluster; ``application`` is the password of the role `app`."""
    return Secrets(**{name: Secret(token(SECRET_BYTES)) for name in MADE}, application=application)


def first_files(wanted: Identity, own: Secrets, host_name: str) -> dict[str, bytes]:
    """Return the files of the first node by relative path, with new keys and certificates.

    The identity is the last one: written last, it marks the node as complete.
    """
    identity = alone(wanted)
    authorities = new_authorities(f"openvcha {identity.cluster_name}")
    made = node_files(
        identity,
        authorities,
        secrets=own,
        account=new_data_account(),
        api=api_certificate(authorities.service, identity.public_address, host_name),
    )
    return {path: made[path] for path in sorted(made, key=lambda path: path == IDENTITY)}
