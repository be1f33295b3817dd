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
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class CannotDropRoot(Exception):  # noqa: N818 - describes the condition
    """Root privileges cannot be dropped here; the text names a remedy."""


def controlling_uid(path: Path, *, may_be_missing: bool = False) -> int:
    """Return the uid of the account that controls the target of a path: 0 if only root does.

    It is the first owner other than root of a directory or link on the way. Raises CannotDropRoot
    if any account could change the path, and FileNotFoundError if a part is missing, unless the
    caller will create it: in a shared folder another account could create it first.
    """
    with contextlib.closing(_Walk(path)) as walk:
        while walk.uid == 0 and walk.goes_on:
            try:
                walk.step()
            except FileNotFoundError:
                if may_be_missing:
                    return 0
                raise
        return walk.uid


def make_directories(directory: Path) -> None:
    """Create a directory and its missing parents as root's, unless it exists.

    Raises CannotDropRoot if another account controls the path, OSError.
    """
    with contextlib.closing(_Walk(directory)) as walk:
        while walk.goes_on:
            try:
                walk.step_as_root()
            except FileNotFoundError:
                walk.make_next()
        os.close(walk.open_directory())


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[int]:
    """Open a directory that only root controls, and yield its descriptor.

    Raises CannotDropRoot if another account controls the path, OSError.
    """
    with contextlib.closing(_Walk(directory)) as walk:
        while walk.goes_on:
            walk.step_as_root()
        descriptor = walk.open_directory()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def require_unreplaced(descriptor: int, directory: Path) -> None:
    """Raise CannotDropRoot unless the path still leads to the open directory, OSError."""
    if not os.path.samestat(os.fstat(descriptor), directory.stat()):
        raise CannotDropRoot(f"another program has just replaced {directory}: try again")


def hand_over(descriptor: int, directory: Path, uid: int, gid: int) -> None:
    """Change the owner of an open directory of root's, and of everything in it.

    Nothing changes unless all of it is root's (or the account's, after an incomplete attempt). Each
    directory changes its owner after its contents, and is not entered again: its new owner may have
    created links there. Raises CannotDropRoot, OSError.
    """
    if os.fstat(descriptor).st_uid == uid:
        return
    _require_givable(descriptor, directory, uid)
    os.fchmod(descriptor, 0o700)  # no other account can enter meanwhile
    _give(descriptor, directory, uid, gid)


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


class _Walk:
    """A walk along a path, entry by entry; it follows the links.

    It opens each entry first and judges the descriptor, so that nobody can replace the entry in
    between.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._links = path, 0
        # Not abspath: ".." after a link leads elsewhere than the text suggests.
        self._waiting = list(reversed((Path.cwd() / path).parts[1:]))
        self._at, self._shown = os.open("/", _LOOK), Path("/")
        self.uid = 0
        """The owner of the entry reached."""

    def close(self) -> None:
        os.close(self._at)

    @property
    def goes_on(self) -> bool:
        """Return whether a part of the path is left."""
        return bool(self._waiting)

    def step(self) -> None:
        """Go on to the next entry, or read the link there. Raises CannotDropRoot, OSError."""
        name = self._waiting[-1]
        try:
            entry = os.open(name, _LOOK, dir_fd=self._at)
        except OSError as error:
            error.filename = str(self._path)
            raise
        del self._waiting[-1]
        if name == "..":
            self._move(entry, self._shown.parent)
            return
        found = os.fstat(entry)
        self.uid = found.st_uid
        if self.uid == 0 and stat.S_ISLNK(found.st_mode):
            self._follow(entry)
            return
        self._move(entry, self._shown / name)
        if self.uid == 0:
            _require_closed(self._shown, found)

    def step_as_root(self) -> None:
        """Do the same, and raise CannotDropRoot if that entry is not root's."""
        self.step()
        if self.uid != 0:
            raise CannotDropRoot(f"an account other than root now controls {self._path}: try again")

    def make_next(self) -> None:
        """Create the next entry as a directory, the last one private. Raises OSError."""
        mode = 0o755 if len(self._waiting) > 1 else 0o700
        with contextlib.suppress(FileExistsError):  # then the next step judges it
            os.mkdir(self._waiting[-1], mode, dir_fd=self._at)

    def open_directory(self) -> int:
        """Return a descriptor of the directory reached. Raises OSError."""
        try:
            return os.open(".", _OPEN, dir_fd=self._at)
        except OSError as error:
            error.filename = str(self._path)
            raise

    def _follow(self, link: int) -> None:
        try:
            target = PurePosixPath(os.readlink("", dir_fd=link))
        finally:
            os.close(link)
        self._links += 1
        if self._links > MAX_LINKS:
            raise CannotDropRoot(f"{self._path} leads through too many symbolic links")
        if target.is_absolute():
            self._move(os.open("/", _LOOK), Path("/"))
        self._waiting += reversed([part for part in target.parts if part != "/"])

    def _move(self, entry: int, shown: Path) -> None:
        os.close(self._at)
        self._at, self._shown = entry, shown


def _require_givable(descriptor: int, path: Path, uid: int) -> None:
    for name, found in _entries_to_give(descriptor, path, uid):
        if stat.S_ISDIR(found.st_mode):
            with _opened_below(descriptor, name) as below:
                _require_givable(below, path / name, uid)


def _give(descriptor: int, path: Path, uid: int, gid: int) -> None:
    for name, found in _entries_to_give(descriptor, path, uid):
        if stat.S_ISDIR(found.st_mode):
            with _opened_below(descriptor, name) as below:
                _give(below, path / name, uid, gid)
        else:
            os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
    os.fchown(descriptor, uid, gid)


def _entries_to_give(descriptor: int, path: Path, uid: int) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the entries of an open directory that are still root's.

    Raises CannotDropRoot for one that is neither root's alone nor the account's (``uid``).
    """
    for name in os.listdir(descriptor):
        found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        if found.st_uid == uid:
            continue  # already changed by an incomplete attempt
        if found.st_uid != 0:
            raise CannotDropRoot(
                f"{path / name} belongs to another account, so root does not change its owner"
            )
        if not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1:
            raise CannotDropRoot(
                f"{path / name} has another hard link, so root does not change its owner"
            )
        yield name, found


@contextlib.contextmanager
def _opened_below(descriptor: int, name: str) -> Iterator[int]:
    below = os.open(name, _OPEN, dir_fd=descriptor)
    try:
        yield below
    finally:
        os.close(below)


def _require_closed(path: Path, found: os.stat_result) -> None:
    """Raise CannotDropRoot if other accounts may rename entries of a directory of root.

    With an access control list, the group's bits are the most that the list gives to anybody.
    """
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if stat.S_ISDIR(found.st_mode) and others and not found.st_mode & stat.S_ISVTX:
        raise CannotDropRoot(
            f"other users can write to {path}, so vcha refuses to work there as root: run `chmod"
            f" go-w {path}`, or use another directory"
        )
