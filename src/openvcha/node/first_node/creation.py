"""The directory of a first node, made so that the next run continues after a crash at any point.

``first-node.json`` comes first and says that the directory was begun; the identity comes last but
one and makes it a node; then the former goes.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.identity import IDENTITY
from openvcha.node.layout import Layout
from openvcha.system.files.durable import sync_directory, write_durably
from openvcha.system.files.regular_files import read_regular

BEGUN = "first-node.json"
TLS = "tls"


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """The data directory that is taken over, and its system's identifier."""

    source: str
    system: str


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What was begun in a directory."""

    adopted: Adopted | None = None


class CannotCreate(Exception):  # noqa: N818 - named after the condition
    """The node cannot be made here; the text says why and what to do."""


def begun_in(directory: Path, wanted: str = "") -> Begun | None:
    """Return what an earlier run has begun in a directory; None if nothing.

    ``wanted`` is the data directory to adopt, which may be there already. Raises CannotCreate if
    anything else is there, OSError.
    """
    if not os.path.lexists(directory) or _entries(directory) <= _in_place(directory, wanted):
        return None
    if (directory / IDENTITY).exists():
        # Also if only the mark is left: the node may have run meanwhile.
        raise CannotCreate(_occupied(directory))
    try:
        begun = msgspec.json.decode(read_regular(directory / BEGUN), type=Begun)
    except FileNotFoundError:
        raise CannotCreate(_occupied(directory)) from None
    except msgspec.DecodeError as error:
        raise CannotCreate(f"{directory / BEGUN} cannot be read ({error}): delete it") from error
    return begun


def why_not_continued(directory: Path, begun: Begun | None, wanted: str) -> str:
    """Return why what was begun does not go on with the data ``wanted``; empty if it does.

    ``wanted`` is the directory to adopt, or empty. Data that were taken must not be forgotten.
    """
    adopted, own = begun.adopted if begun else None, Layout(directory).pgdata
    if not own.is_dir():
        return ""
    if adopted is None:
        return "" if Path(wanted) == own else f"{own} holds data: adopt them (--adopt {own})"
    if wanted in {adopted.source, str(own)}:
        return ""
    return (
        f"an earlier run has taken {adopted.source} to {own}: continue with --adopt"
        f" {adopted.source}, or undo it with `mv {own} {adopted.source}`"
    )


def prepare_directory(directory: Path, files: Mapping[str, bytes], begun: Begun) -> None:
    """Write all files but the identity; those of an earlier run are replaced. Raises OSError."""
    write_durably(directory / BEGUN, msgspec.json.encode(begun))
    shutil.rmtree(directory / TLS, ignore_errors=True)
    for path, content in files.items():
        if path != IDENTITY:
            place = directory / path
            place.parent.mkdir(mode=0o700, exist_ok=True)
            write_durably(place, content)
    sync_directory(directory)


def complete(directory: Path, identity: bytes) -> None:
    """Make a prepared directory a node. Raises OSError."""
    write_durably(directory / IDENTITY, identity)
    (directory / BEGUN).unlink()
    sync_directory(directory)


def _in_place(directory: Path, wanted: str) -> set[str]:
    own = Layout(directory).pgdata
    return {own.name} if wanted == str(own) else set()


def _entries(directory: Path) -> set[str]:
    try:
        return {entry.name for entry in directory.iterdir()}
    except NotADirectoryError:
        raise CannotCreate(f"{directory} is not a directory") from None


def _occupied(directory: Path) -> str:
    if (directory / IDENTITY).exists():
        return f"{directory} already holds a node; `vcha node run {directory}` runs it"
    return f"{directory} is not empty; choose another node.directory, or empty this one"


prepare(__name__)
