"""What a data node orders of a host's agent, and what that answers: one JSON text each.

The agent does not know the inventory. A VM's directory carries the token of its creation: an order
for another token's directory, or for one without any, does nothing to it.
"""

from typing import Any

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.prepared import prepare
from openvcha.api.structures import LocalizableMessage
from openvcha.infrastructure.interface import Power

MARK = ".openvcha-vm"
"""The file in a VM's directory that has its token."""
DATASTORE_MARK = ".openvcha-datastore"
"""The file in a datastore that says that its disk is mounted."""
MAX_ORDER_BYTES = 8 << 20


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A VM on the host: its directory, its token, its name for messages."""

    directory: str
    token: str
    name: str


class Make(msgspec.Struct, frozen=True, kw_only=True, tag="make"):
    """Make the VM's directory; with ``boot``, also its boot file, unless it is a node already."""

    place: Place
    boot: bytes | None = None


class UseDatastore(msgspec.Struct, frozen=True, kw_only=True, tag="use-datastore"):
    """Mark a datastore for its first VM; for a later one, fail unless it has the mark."""

    directory: str
    first: bool


class WriteFiles(msgspec.Struct, frozen=True, kw_only=True, tag="write"):
    """Write files (relative path: content) of a VM that is off."""

    place: Place
    files: dict[str, bytes]


class ReadFile(msgspec.Struct, frozen=True, kw_only=True, tag="read"):
    """Read a file of a VM."""

    place: Place
    path: str


class Observe(msgspec.Struct, frozen=True, kw_only=True, tag="observe"):
    """Return the state of several VMs."""

    places: tuple[Place, ...]


class PowerOn(msgspec.Struct, frozen=True, kw_only=True, tag="power-on"):
    """Start a VM."""

    place: Place


class PowerOff(msgspec.Struct, frozen=True, kw_only=True, tag="power-off"):
    """Cut the power of a VM."""

    place: Place


class Delete(msgspec.Struct, frozen=True, kw_only=True, tag="delete"):
    """Cut the power of a VM, and delete its directory."""

    place: Place


class ProbeAddress(msgspec.Struct, frozen=True, kw_only=True, tag="probe"):
    """Return whether anything uses an address, here or beside the host.

    With ``standing``, only what listens there uses it, not a machine that has it.
    """

    address: str
    standing: bool = False


class HasAddress(msgspec.Struct, frozen=True, kw_only=True, tag="has_address"):
    """Return whether an interface of the host has an address."""

    address: str


class MeasureSpace(msgspec.Struct, frozen=True, kw_only=True, tag="space"):
    """Return the space of directories."""

    directories: tuple[str, ...]


class AskHelper(msgspec.Struct, frozen=True, kw_only=True, tag="ask-helper"):
    """Return why a helper (``socket``) could not hold an address; empty if it could."""

    socket: str
    interface: str
    address: str


Order = (
    UseDatastore
    | Make
    | WriteFiles
    | ReadFile
    | Observe
    | PowerOn
    | PowerOff
    | Delete
    | ProbeAddress
    | HasAddress
    | MeasureSpace
    | AskHelper
)


class VmState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a VM. GONE: its directory is not there. ``complete``: it may be started."""

    power: Power
    complete: bool = False


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a file system, and the bytes that an account may still use."""

    capacity: int
    free: int


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A standard error of the agent."""

    error_type: ErrorType
    messages: tuple[LocalizableMessage, ...]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an order, or its failure."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None


def encode_order(order: Order) -> bytes:
    """Return the text of an order."""
    return msgspec.json.encode(order)


def decode_order(text: bytes) -> Order:
    """Return an order. Raises msgspec.DecodeError."""
    found: Order = msgspec.json.decode(text, type=Order)
    return found


def encode_result(result: Any) -> bytes:
    """Return the answer of an order that was carried out."""
    return msgspec.json.encode(Answer(result=msgspec.Raw(msgspec.json.encode(result))))


def encode_failure(error: ApiError) -> bytes:
    """Return the answer of an order that failed."""
    failure = Failure(error_type=error.error_type, messages=tuple(error.messages))
    return msgspec.json.encode(Answer(failure=failure))


def result_of(text: bytes, type_: Any) -> Any:
    """Return the result in an answer. Raises its ApiError, msgspec.DecodeError."""
    answer = msgspec.json.decode(text, type=Answer)
    if answer.failure is not None:
        raise ApiError(answer.failure.error_type, *answer.failure.messages)
    return msgspec.json.decode(answer.result, type=type_)


prepare(__name__)
