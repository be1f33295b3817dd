"""The files of a VM: their permitted paths, and the end of a log."""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.system.files.durable import write_durably


def make_directory(path: Path) -> None:
    """Create the directory and its missing parents, for the owner only (0700)."""
    for directory in (*reversed(path.parents), path):
        directory.mkdir(mode=0o700, exist_ok=True)


def path_below(directory: Path, relative: str) -> Path:
    """Return the path of a file below a directory.

    Raises ApiError INVALID_ARGUMENT for any other path, including one that leaves it by a link.
    """
    parts = PurePosixPath(relative)
    plain = bool(parts.parts) and not parts.is_absolute() and ".." not in parts.parts
    path = directory / relative
    if not plain or "\0" in relative or not path.resolve().is_relative_to(directory.resolve()):
        fail(ErrorType.INVALID_ARGUMENT, message("infrastructure.file.path", relative))
    return path


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a directory durably: all, or none if one of their paths is not permitted.

    Raises ApiError INVALID_ARGUMENT for such a path.
    """
    for path, content in [(path_below(directory, name), files[name]) for name in files]:
        make_directory(path.parent)
        write_durably(path, content)


def tail(path: Path, start: int, limit: int = 2000) -> str:
    """Return the end of the text that was written to a file after byte `start`."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - limit))
            return file.read(limit).decode(errors="replace").strip()
    except FileNotFoundError:
        return ""
