"""The directory of a node that joins, filled so that it survives a crash at any point."""

import contextlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.identity import IDENTITY
from openvcha.node.layout import NODE_CERTIFICATE, NODE_KEY
from openvcha.system.files.durable import sync_directory, write_durably

JOINING = "joining.json"


class JoinRefused(Exception):  # noqa: N818 - named after the outcome
    """The node cannot be created here; the text says why and what to do."""


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the node will become; kept in its directory until that is complete.

    ``server`` is where an administrator lets it join. It is empty for a node with a boot file.
    """

    server: str
    role: str
    name: str
    ha_address: str


def begin(directory: Path, wanted: JoinRequest) -> bytes:
    """Do as ``request_certificate``. Raises JoinRefused if anything else is in the directory."""
    _require_unused(directory)
    return request_certificate(directory, wanted)


def request_certificate(directory: Path, wanted: JoinRequest) -> bytes:
    """Create the node's key, unless it exists, and return the certificate request (PEM).

    Raises JoinRefused if the directory was begun as another node.
    """
    # Only a node that joins loads this library.
    from openvcha.node.security.certificates import request_of, signing_request  # noqa: PLC0415

    _require_same(directory, wanted)
    (directory / "tls").mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    write_durably(directory / JOINING, msgspec.json.encode(wanted))
    key = directory / NODE_KEY
    if not key.exists():
        write_durably(key, signing_request(wanted.ha_address).key)
    return request_of(key.read_bytes(), wanted.ha_address)


def complete(directory: Path, given: Mapping[str, bytes], *, drop: tuple[str, ...] = ()) -> None:
    """Write the files from the cluster. The identity comes last: it makes the directory a node.

    Then the files in ``drop`` (paths in the directory) are deleted.
    Raises JoinRefused if the certificate is not for this node's key, or a path leads outside.
    """
    from openvcha.node.security.certificates import (  # noqa: PLC0415 - as above
        certified_key,
        request_of,
        requested_key,
    )

    own = (directory / NODE_KEY).read_bytes()
    wanted = msgspec.json.decode((directory / JOINING).read_bytes(), type=JoinRequest)
    mine = requested_key(request_of(own, wanted.ha_address), wanted.ha_address)
    if NODE_KEY in given or certified_key(given[NODE_CERTIFICATE]) != mine:
        raise JoinRefused("the server sent a certificate that is not for this node's key")
    places = {path: _inside(directory, path) for path in given}
    for path in sorted(given, key=lambda path: path == IDENTITY):
        places[path].parent.mkdir(mode=0o700, exist_ok=True)
        write_durably(places[path], given[path])
    forget_join(directory, drop=drop)


def forget_join(directory: Path, *, drop: tuple[str, ...] = ()) -> None:
    """Delete the record of a join that is complete, and the files in ``drop``."""
    for name in (*drop, JOINING):
        (directory / name).unlink(missing_ok=True)
    sync_directory(directory)


def abandon(directory: Path, *, drop: tuple[str, ...] = ()) -> None:
    """Delete what ``begin`` has made, and the files in ``drop``: the join was refused."""
    for name in (*drop, NODE_KEY, JOINING):
        (directory / name).unlink(missing_ok=True)
    for folder in ((directory / NODE_KEY).parent, directory):
        with contextlib.suppress(OSError):  # something else is in it
            folder.rmdir()


def _require_unused(directory: Path) -> None:
    if not directory.exists() or not any(directory.iterdir()):
        return
    if (directory / IDENTITY).exists() and not (directory / JOINING).exists():
        raise JoinRefused(f"{directory} already holds a node; `vcha node run {directory}` runs it")
    if not (directory / JOINING).exists():
        raise JoinRefused(f"{directory} is not empty; use a new directory")


def _require_same(directory: Path, wanted: JoinRequest) -> None:
    try:
        begun = msgspec.json.decode((directory / JOINING).read_bytes(), type=JoinRequest)
    except FileNotFoundError:
        return
    except msgspec.DecodeError:
        raise JoinRefused(f"{directory} is not empty; use a new directory") from None
    if begun != wanted:
        raise JoinRefused(
            f"{directory} was begun as {begun.role} {begun.name} at {begun.ha_address} for"
            f" {begun.server or 'its boot file'}; continue with that, or delete the directory"
        )


def _inside(directory: Path, path: str) -> Path:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not 1 <= len(parts.parts) <= 2:
        raise JoinRefused(f"the server sent a file {path!r}, which does not belong to a node")
    return directory / parts


prepare(__name__)
