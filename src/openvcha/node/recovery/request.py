"""The recovery request of a node: a file that a command writes and the node's supervisor runs.

Commands and the supervisor change it under a lock, so that a request is either withdrawn or begun.
"""

import contextlib
import datetime as dt
import enum
from collections.abc import Iterator
from pathlib import Path

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.layout import Layout
from openvcha.system.files.durable import sync_directory, write_durably
from openvcha.system.files.locks import locked
from openvcha.system.files.new_files import until_exists

VALID = dt.timedelta(minutes=10)
"""How long a request to make a node stand-alone is valid: later, the others may have served."""
POLL_SECONDS = 0.1


class RequestKind(enum.StrEnum):
    """The kind of a request."""

    STANDALONE = "STANDALONE"  # a store of one member and a cluster of one node
    RESTORE = "RESTORE"  # the old data, which were set aside


class RecoveryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request; ``id`` distinguishes its outcome from earlier ones.

    ``begun``: the store was, or may have been, separated from the other members. Only once it is
    separated is there no way back; until then the others are asked again: they may have returned.
    ``asked`` is the time of the request (ISO 8601, UTC), ``boot`` the id of the machine's boot.
    """

    wish: RequestKind
    id: str
    begun: bool = False
    asked: str = ""
    boot: str = ""


class Withdrawal(enum.Enum):
    """The result of withdrawing a request."""

    NOTHING = enum.auto()
    """There is no request."""
    WITHDRAWN = enum.auto()
    BEGUN = enum.auto()
    """It stays: the store is, or may be, separated."""


def request_path(layout: Layout) -> Path:
    """Return the path of the request."""
    return layout.root / "recovery.json"


def submit(layout: Layout, request: RecoveryRequest) -> None:
    """Write a request; one that has begun stays begun, under the new id. Raises OSError."""
    with _exclusive(layout):
        write_request(layout, _continued(request, _readable(layout)))


def write_request(layout: Layout, request: RecoveryRequest) -> None:
    """Write a request for the node's supervisor, now or at its next start. Raises OSError."""
    write_durably(request_path(layout), msgspec.json.encode(request))


def load_request(layout: Layout) -> RecoveryRequest | None:
    """Return the pending request, if any. Raises OSError, msgspec.DecodeError."""
    try:
        return msgspec.json.decode(request_path(layout).read_bytes(), type=RecoveryRequest)
    except FileNotFoundError:
        return None


def mark_begun(layout: Layout, request: RecoveryRequest) -> bool:
    """Mark the pending request, which may be newer, as begun; False if it was withdrawn."""
    with _exclusive(layout):
        newest = load_request(layout)
        if newest is None:
            return False
        write_request(layout, msgspec.structs.replace(newest, wish=request.wish, begun=True))
        return True


def withdraw(layout: Layout) -> Withdrawal:
    """Delete a request to make the node stand-alone, unless it has begun. Raises OSError."""
    with _exclusive(layout):
        found = _readable(layout)
        if found is None or found.wish is not RequestKind.STANDALONE:
            return Withdrawal.NOTHING
        if found.begun:
            return Withdrawal.BEGUN
        _delete(layout)
        return Withdrawal.WITHDRAWN


def finish(layout: Layout, request: RecoveryRequest) -> RecoveryRequest | None:
    """Delete a request that was carried out; return a newer one instead, if there is one."""
    with _exclusive(layout):
        newer = load_request(layout)
        if newer is not None and newer.id != request.id:
            return newer
        _delete(layout)
        return None


def expiry(request: RecoveryRequest, now: dt.datetime, boot: str) -> str | None:
    """Return why a request is no longer valid; None if it is.

    After a reboot, or a long time, the others may have served without this node.
    """
    try:
        age = now - dt.datetime.fromisoformat(request.asked)
    except (ValueError, TypeError):
        return "the time of the request is unknown; ask again"
    if request.boot != boot:
        return f"it was requested at {request.asked}, before this machine was restarted; ask again"
    # A time far in the future means that the clock was changed: the age is unknown.
    if abs(age) > VALID:
        return f"it was requested at {request.asked}, and is valid for 10 min; ask again"
    return None


def set_unreadable_aside(layout: Layout) -> None:
    """Rename an unreadable request, which would prevent every start of the node."""
    path = request_path(layout)
    path.replace(path.with_suffix(".unreadable"))


async def wait_for_request(layout: Layout) -> None:
    """Wait until there is a request."""
    await until_exists(request_path(layout), POLL_SECONDS)


def _readable(layout: Layout) -> RecoveryRequest | None:
    """Return the pending request; None if it is unreadable: the supervisor sets it aside."""
    with contextlib.suppress(msgspec.DecodeError):
        return load_request(layout)
    return None


def _continued(request: RecoveryRequest, before: RecoveryRequest | None) -> RecoveryRequest:
    if before is None or not before.begun:
        return request
    return msgspec.structs.replace(request, wish=before.wish, begun=True)


def _delete(layout: Layout) -> None:
    request_path(layout).unlink(missing_ok=True)
    sync_directory(layout.root)


@contextlib.contextmanager
def _exclusive(layout: Layout) -> Iterator[None]:
    layout.run.mkdir(mode=0o700, exist_ok=True)
    with locked(layout.run / "recovery.lock"):
        yield


prepare(__name__)
