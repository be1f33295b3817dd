"""Marks of writes, which several processes see."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openvcha.store.write_marks import MAX_WRITERS, SharedWrites

WRITER = """
import sys
from pathlib import Path
from openvcha.store.write_marks import SharedWrites
marks = SharedWrites(Path(sys.argv[1]), int(sys.argv[2]))
for _ in range(1000):
    marks.add()
"""


def test_a_mark_of_another_process_is_seen(tmp_path: Path) -> None:
    """Whatever number it has; those who count at the same time lose no mark."""
    own, states = SharedWrites(tmp_path / "writes", 3), set()
    for writer in (1, MAX_WRITERS):
        states.add(own.state())
        command = [sys.executable, "-c", WRITER, str(tmp_path / "writes"), str(writer)]
        subprocess.run(command, check=True)
    own.add()
    states.add(own.state())
    assert len(states) == 3
    assert list(memoryview(own.state()).cast("Q"))[:3] == [1000, 0, 1]


def test_a_process_that_starts_again_repeats_no_state(tmp_path: Path) -> None:
    """Otherwise a proof from before its start could count again."""
    other, states = SharedWrites(tmp_path / "writes", 2), set()
    for _ in range(3):
        states.add(other.state())
        again = SharedWrites(tmp_path / "writes", 1)
        again.add()
        again.close()
    assert len(states | {other.state()}) == 4


@pytest.mark.parametrize("writer", [0, MAX_WRITERS + 1])
def test_a_number_beyond_the_file_is_refused(tmp_path: Path, writer: int) -> None:
    """It would be another process's, or none."""
    with pytest.raises(ValueError, match="there is no writer"):
        SharedWrites(tmp_path / "writes", writer)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """The file is the node's own."""
    (tmp_path / "writes").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="writes"):
        SharedWrites(tmp_path / "writes", 1)
    assert not (tmp_path / "elsewhere").exists()


def test_the_file_is_never_sparse(tmp_path: Path) -> None:
    """On a full disk the first mark in a hole would kill the process."""
    path = tmp_path / "writes"
    path.touch()
    os.truncate(path, MAX_WRITERS * 8)  # a file that was left sparse
    SharedWrites(path, 1).close()
    assert path.stat().st_blocks > 0


def test_a_full_disk_is_an_error_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process can go on without marks."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        SharedWrites(tmp_path / "writes", 1)
