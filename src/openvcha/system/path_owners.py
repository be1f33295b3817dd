"""The account that controls the target of a path.

Root follows every link and may do everything there. So it uses a path only if no other account can
change where it leads; otherwise that account could make root read and change root's own files.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MAX_LINKS = 40
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class CannotDropRoot(Exception):  # noqa: N818 - describes the condition
    """Root privileges cannot be dropped here; the text names a remedy."""


def controlling_uid(path: Path) -> int:
    """Return the uid of the account that controls the target of a path: 0 if only root does.

    It is the first owner other than root of a directory or link on the way; the caller will
    create missing ones. Raises CannotDropRoot if any account could change the path.
    """
    at, links = Path("/"), 0
    # Not abspath: ".." after a link leads elsewhere than the text suggests.
    waiting = list(reversed((Path.cwd() / path).parts[1:]))
    while waiting:
        name = waiting.pop()
        if name == "..":
            at = at.parent
            continue
        try:
            found = (at / name).lstat()
        except FileNotFoundError:
            return 0
        if found.st_uid != 0:
            return found.st_uid
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise CannotDropRoot(f"{path} leads through too many symbolic links")
            target = PurePosixPath((at / name).readlink())
            if target.is_absolute():
                at = Path("/")
            waiting += reversed([part for part in target.parts if part != "/"])
            continue
        at /= name
        _require_closed(at, found)
    return 0


def hand_over(directory: Path, uid: int, gid: int) -> None:
    """Change the owner of a directory tree that only root controls.

    Each directory changes its owner after its contents, and is not entered again: its new owner may
    have created links there. Raises CannotDropRoot, OSError.
    """
    descriptor = os.open(directory, _OPEN)
    try:
        found = os.fstat(descriptor)
        if found.st_uid == uid:
            return
        os.fchmod(descriptor, 0o700)  # no other account can enter meanwhile
        _give(descriptor, directory, uid, gid)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Act as another account during a block, for files and signals; root can be regained."""
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(gid, gid, 0)
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


def _give(descriptor: int, path: Path, uid: int, gid: int) -> None:
    for name in os.listdir(descriptor):
        found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        if found.st_uid not in (0, uid):
            raise CannotDropRoot(
                f"{path / name} belongs to another account, so root does not change its owner"
            )
        if found.st_uid == uid:
            continue  # already changed by an incomplete attempt
        if stat.S_ISDIR(found.st_mode):
            below = os.open(name, _OPEN, dir_fd=descriptor)
            try:
                _give(below, path / name, uid, gid)
            finally:
                os.close(below)
        elif found.st_nlink > 1:
            raise CannotDropRoot(
                f"{path / name} has another hard link, so root does not change its owner"
            )
        else:
            os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
    os.fchown(descriptor, uid, gid)


def _require_closed(path: Path, found: os.stat_result) -> None:
    """Raise CannotDropRoot if other accounts may rename entries of a directory of root."""
    others = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != 0)
    if stat.S_ISDIR(found.st_mode) and others and not found.st_mode & stat.S_ISVTX:
        raise CannotDropRoot(
            f"other users can write to {path}, so vcha refuses to work there as root: run `chmod"
            f" go-w {path}`, or use another directory"
        )
