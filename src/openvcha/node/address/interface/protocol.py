"""What a node's service and the helper that holds its public address tell each other.

Each is one line of JSON: a request of the service, then the helper's answer.
"""

from typing import Annotated, Final, Literal

import msgspec

from openvcha.api.prepared import prepare

MAX_LINE_BYTES: Final = 1024
MAX_TEXT_LENGTH: Final = 300
MAX_SECONDS: Final = 1e12

Command = Literal["acquire", "refresh", "release", "check"]
Name = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_LENGTH)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request. ``until``: until when no other node can lead (`lifetime.boot_time`).

    ``interface`` and ``address`` must be those that the helper is configured for. ``check`` changes
    nothing: whether the address could be acquired here.
    """

    do: Command
    interface: Name
    address: Name
    until: Annotated[float, msgspec.Meta(ge=-MAX_SECONDS, le=MAX_SECONDS)] = 0.0


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who has the address now: ``held`` means this node. ``mac``: that of the other machine.

    ``holds``: this node has it too, as in a conflict that began after the address was acquired.
    """

    state: Literal["held", "nobody", "conflict", "cannot"]
    mac: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}(:[0-9a-f]{2}){5})?$")] = ""
    reason: Name = ""
    holds: bool = False


def encode(message: Request | Answer) -> bytes:
    """Return a message as a line."""
    return msgspec.json.encode(message) + b"\n"


def cannot(reason: str, *, holds: bool = False) -> Answer:
    """Return the answer that the address cannot be held or reached, with the reason."""
    return Answer(state="cannot", reason=reason[:MAX_TEXT_LENGTH], holds=holds)


prepare(__name__)
