"""The interface of this machine that has the public address while its node leads."""

import ipaddress
from pathlib import PurePosixPath
from typing import Annotated, Final

import msgspec

from openvcha.api.prepared import prepare

MIN_ADDRESS_LIFETIME: Final = 2
MAX_ADDRESS_LIFETIME: Final = 10
ADDRESS_LIFETIME: Final = 6
MAX_CLIENT_NETWORKS: Final = 64
HELPER_SOCKET: Final = "/run/openvcha-address/node.sock"
"""The socket of a node whose ``node.json`` names none; new nodes have one for their address."""

InterfaceName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:@-]{1,15}$")]


class PublicInterface(msgspec.Struct, frozen=True, kw_only=True):
    """Where the public address is while the node leads; a helper (``helper``: socket) adds it.

    ``prefix`` None stands for the address alone (/32, /128). ``lifetime``: after how many seconds
    the kernel removes the address if nobody refreshes it. ``clients``: the networks (CIDR) from
    which users may log in to PostgreSQL; empty stands for all.
    """

    interface: InterfaceName
    prefix: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    lifetime: Annotated[int, msgspec.Meta(ge=MIN_ADDRESS_LIFETIME, le=MAX_ADDRESS_LIFETIME)] = (
        ADDRESS_LIFETIME
    )
    clients: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_CLIENT_NETWORKS)] = ()
    helper: Annotated[str, msgspec.Meta(max_length=100)] = HELPER_SOCKET

    def __post_init__(self) -> None:
        """Raise ValueError unless each of ``clients`` is a network."""
        for network in self.clients:
            if "%" in network:
                raise ValueError(f"{network}: a network has no zone")
            ipaddress.ip_network(network)


def helper_socket(address: str) -> str:
    """Return the socket of the helper of an address, which serves whichever node leads there.

    Raises ValueError if the address is none.
    """
    return str(PurePosixPath(HELPER_SOCKET).with_name(f"{ipaddress.ip_address(address)}.sock"))


prepare(__name__)
