"""Locks between processes."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from openvcha.system.files.locks import DIRECTORY, LOCK_FILE, lock_holder, locked, try_lock


@pytest.mark.parametrize("flags", [LOCK_FILE, DIRECTORY])
def test_a_lock_is_held_once_until_it_is_closed(tmp_path: Path, flags: int) -> None:
    """On a file as well as on a directory."""
    path = tmp_path if flags == DIRECTORY else tmp_path / "lock"
    held = try_lock(path, flags)
    assert held is not None
    assert try_lock(path, flags) is None
    os.close(held)
    again = try_lock(path, flags)
    assert again is not None
    os.close(again)


def test_a_file_that_was_just_removed_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next process would lock another one of the same name."""
    path = tmp_path / "lock"
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        path.unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert try_lock(path) is None


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    """An account that may write there cannot make root open, or create, another file."""
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        try_lock(tmp_path / "lock")
    with pytest.raises(OSError, match="symbolic"), locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_who_waits_gets_it_in_the_end(tmp_path: Path) -> None:
    """One at a time."""
    path, order = tmp_path / "lock", list[str]()
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        with locked(path):
            order.append("second")

    waiter = threading.Thread(target=wait)
    with locked(path):
        waiter.start()
        begun.wait()
        order.append("first")
    waiter.join()
    assert order == ["first", "second"]


def test_the_holder_of_a_lock_is_known(tmp_path: Path) -> None:
    """Not one that waits for it, nor one of another pid namespace, which has no pid here."""
    path = tmp_path / "lock"
    with pytest.raises(FileNotFoundError):
        lock_holder(path)
    path.touch()
    assert lock_holder(path) is None
    with locked(path):
        assert lock_holder(path) == os.getpid()
    found = path.stat()
    here = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line, holder in (
        (f"1: FLOCK  ADVISORY  WRITE 7 {here} 0 EOF", 7),
        (f"1: -> FLOCK  ADVISORY  WRITE 7 {here} 0 EOF", None),
        (f"1: FLOCK  ADVISORY  WRITE 0 {here} 0 EOF", None),
        (f"1: POSIX  ADVISORY  WRITE 7 {here} 0 EOF", None),
        (f"1: FLOCK  ADVISORY  WRITE 7 {here}0 0 EOF", None),
    ):
        (tmp_path / "locks").write_text(f"{line}\n")
        assert lock_holder(path, tmp_path) == holder, line
