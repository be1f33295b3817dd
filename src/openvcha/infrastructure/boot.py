"""What a new node gets from outside: how to join its cluster, and no secret that outlives that."""

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret, conceal, reveal
from openvcha.api.structures import IpSpec

BOOT_FILE = "boot.json"
"""Its place in a node's directory, where only the node can read it."""


class Boot(msgspec.Struct, kw_only=True, frozen=True):
    """How a new node joins its cluster.

    ``join``: the URLs of the API, those on the HA network first. ``token`` is valid once, for this
    role and HA address. ``authority_sha256``: the SHA-256 of the certificate of the API's
    authority, in hexadecimal digits.
    """

    join: tuple[str, ...]
    token: Secret
    authority_sha256: str
    role: str
    name: str
    ha_ip: IpSpec
    failover_ip: IpSpec | None = None


def encode_boot(boot: Boot) -> bytes:
    """Return the content of a node's boot file, with the token in plain text."""
    return msgspec.json.encode(boot, enc_hook=reveal)


def decode_boot(content: bytes) -> Boot:
    """Return what a boot file says. Raises msgspec.DecodeError."""
    return msgspec.json.decode(content, type=Boot, dec_hook=conceal)


prepare(__name__)
