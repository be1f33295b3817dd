"""Files that are complete after a crash."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from openvcha.system.files.durable import overwrite, write_durably, write_private


def test_data_reach_the_disk_before_their_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure at any moment leaves the old file or the new one."""
    path = tmp_path / "file"
    done: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        done.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_durably(path, b"new", 0o640)
    assert done == ["fsync .file.new", "rename", f"fsync {tmp_path.name}"]
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)


@pytest.mark.parametrize("write", [write_durably, write_private])
def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], None]
) -> None:
    """Nor does a partial file take up space on a full disk."""
    path = tmp_path / "file"
    write(path, b"old")

    def full(_self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "full", str(target))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="full"):
        write(path, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("file", b"old")]


@pytest.mark.parametrize("write", [write_durably, write_private])
def test_what_a_crash_has_left_is_replaced(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    """The new file does not inherit its owner or mode."""
    (tmp_path / ".file.new").write_bytes(b"a longer half of a file")
    (tmp_path / ".file.new").chmod(0o666)
    write(tmp_path / "file", b"new")
    (file,) = tmp_path.iterdir()
    assert (file.name, file.read_bytes(), file.stat().st_mode & 0o777) == ("file", b"new", 0o600)


@pytest.mark.parametrize(("data", "after"), [(b"ab", b"ab   "), (b"abcdefg", b"abcdefg")])
def test_a_file_is_overwritten_in_place(tmp_path: Path, data: bytes, after: bytes) -> None:
    """It keeps its blocks, and nothing of the old data stays after the new."""
    path = tmp_path / "file"
    path.write_bytes(b"older")
    inode = path.stat().st_ino
    overwrite(path, data)
    assert (path.read_bytes(), path.stat().st_ino) == (after, inode)
    with pytest.raises(FileNotFoundError):
        overwrite(tmp_path / "none", data)
