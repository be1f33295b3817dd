"""The messages between the switch and the programs that hold an address through it.

Each is one packet of JSON over a Unix socket. A connection is one packet too: its number in decimal
digits, with the descriptor.
"""

from pathlib import Path
from typing import Annotated, Final

import msgspec

from openvcha.api.prepared import prepare

MAX_NAME_LENGTH: Final = 200
MAX_DRAIN_SECONDS: Final = 10.0

Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]
Number = Annotated[int, msgspec.Meta(ge=0)]


class Place(msgspec.Struct, frozen=True):
    """An address and a TCP port of this machine."""

    address: Name
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)]

    def __str__(self) -> str:
        """Return the place for people."""
        return f"{self.address} port {self.port}"


class Take(msgspec.Struct, frozen=True, kw_only=True, tag="take"):
    """Take a place, from a holder with the same or a lower token.

    ``holder`` is the name to show. Once it has given the place up, its connections may last for
    another ``drain`` seconds.
    """

    place: Place
    token: Number
    holder: Name
    drain: Annotated[float, msgspec.Meta(ge=0, le=MAX_DRAIN_SECONDS)] = 0.0


class Release(msgspec.Struct, frozen=True, tag="release"):
    """Give the place up; also the answer to its loss."""


class Assign(msgspec.Struct, frozen=True, kw_only=True, tag="assign"):
    """Note that a connection was passed on to another process, by its id."""

    connection: Number
    process: Number


class CutProcess(msgspec.Struct, frozen=True, kw_only=True, tag="cut process"):
    """End the connections that were passed on to a process, which has ended."""

    process: Number


class CutConnection(msgspec.Struct, frozen=True, kw_only=True, tag="cut"):
    """End a connection that the holder could not receive."""

    connection: Number


class Show(msgspec.Struct, frozen=True, tag="show"):
    """Return who holds what."""


class Forget(msgspec.Struct, frozen=True, tag="forget"):
    """Forget all tokens: an administrator has begun a new sequence of revisions."""


class Quit(msgspec.Struct, frozen=True, tag="quit"):
    """End the switch."""


Request = Take | Release | Assign | CutProcess | CutConnection | Show | Forget | Quit


class Granted(msgspec.Struct, frozen=True, tag="granted"):
    """The place is taken; connections follow, until it is lost or given up."""


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """The place is lost to a holder with a later token; no more connections follow."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The place is not taken, for this reason."""

    reason: str


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A place that somebody holds."""

    place: Place
    holder: str
    token: int
    connections: int


class Shown(msgspec.Struct, frozen=True, tag="shown"):
    """Who holds what."""

    held: tuple[Held, ...] = ()


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The request was carried out."""


Reply = Granted | Lost | Refused | Shown | Done


def socket_path(root: Path) -> Path:
    """Return the path of the switch's socket, for the root of an infrastructure."""
    return root / "switch.sock"


def lock_path(root: Path) -> Path:
    """Return the path of the lock that the one switch of a root holds."""
    return root / "switch.lock"


def tokens_path(root: Path) -> Path:
    """Return the path of the highest token of each place."""
    return root / "switch.json"


def log_path(root: Path) -> Path:
    """Return the path of the switch's log."""
    return root / "switch.log"


def encode(message: Request | Reply) -> bytes:
    """Encode a message as one packet."""
    return msgspec.json.encode(message)


def decode_request(packet: bytes) -> Request:
    """Decode a packet. Raises msgspec.DecodeError."""
    request: Request = msgspec.json.decode(packet, type=Request)
    return request


def decode_reply(packet: bytes) -> Reply:
    """Decode a packet. Raises msgspec.DecodeError."""
    reply: Reply = msgspec.json.decode(packet, type=Reply)
    return reply


prepare(__name__)
