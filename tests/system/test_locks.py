"""Locks between processes."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from openvcha.system.locks import DIRECTORY, LOCK_FILE, locked, try_lock


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
