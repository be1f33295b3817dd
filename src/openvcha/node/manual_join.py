"""The directory of a node that joins manually, created so that it survives a crash at any point."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.identity import IDENTITY
from openvcha.node.layout import NODE_CERTIFICATE, NODE_KEY
from openvcha.node.security.certificates import (
    certified_key,
    request_of,
    requested_key,
    signing_request,
)
from openvcha.system.durable import write_durably

JOINING = "joining.json"


class JoinRefused(Exception):  # noqa: N818 - named after the outcome
    """The node cannot be created here; the text says why and what to do."""


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the node will become; kept in its directory until that is complete."""

    server: str
    role: str
    name: str
    ha_address: str


def begin(directory: Path, wanted: JoinRequest) -> bytes:
    """Create the node's key, unless it exists, and return the certificate request (PEM).

    Raises JoinRefused if anything else is in the directory.
    """
    _require_ours(directory, wanted)
    (directory / "tls").mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    write_durably(directory / JOINING, msgspec.json.encode(wanted))
    key = directory / NODE_KEY
    if not key.exists():
        write_durably(key, signing_request(wanted.ha_address).key)
    return request_of(key.read_bytes(), wanted.ha_address)


def complete(directory: Path, given: Mapping[str, bytes]) -> None:
    """Write the files from the cluster. The identity comes last: it makes the directory a node.

    Raises JoinRefused if the certificate is not for this node's key, or a path leads outside.
    """
    own = (directory / NODE_KEY).read_bytes()
    wanted = msgspec.json.decode((directory / JOINING).read_bytes(), type=JoinRequest)
    mine = requested_key(request_of(own, wanted.ha_address), wanted.ha_address)
    if certified_key(given[NODE_CERTIFICATE]) != mine:
        raise JoinRefused("the server sent a certificate that is not for this node's key")
    for path in sorted(given, key=lambda path: path == IDENTITY):
        place = _inside(directory, path)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        write_durably(place, given[path])
    (directory / JOINING).unlink()


def _require_ours(directory: Path, wanted: JoinRequest) -> None:
    if not directory.exists() or not any(directory.iterdir()):
        return
    if (directory / IDENTITY).exists() and not (directory / JOINING).exists():
        raise JoinRefused(f"{directory} already holds a node; `vcha node run {directory}` runs it")
    try:
        begun = msgspec.json.decode((directory / JOINING).read_bytes(), type=JoinRequest)
    except (OSError, msgspec.DecodeError):
        raise JoinRefused(f"{directory} is not empty; use a new directory") from None
    if begun != wanted:
        raise JoinRefused(
            f"{directory} was begun as {begun.role} {begun.name} at {begun.ha_address} for"
            f" {begun.server}; continue with that, or delete the directory"
        )


def _inside(directory: Path, path: str) -> Path:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or len(parts.parts) > 2:
        raise JoinRefused(f"the server sent a file {path!r}, which does not belong to a node")
    return directory / parts


prepare(__name__)
