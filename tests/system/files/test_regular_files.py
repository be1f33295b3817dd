"""Only regular files are read: others could block for ever."""

import os
from pathlib import Path

import pytest

from openvcha.system.files.regular_files import read_regular


def test_a_file_is_read_also_through_a_link(tmp_path: Path) -> None:
    """A link to another kind of file is refused like that file."""
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file") == read_regular(tmp_path / "link") == b"text"
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "to-fifo").symlink_to("fifo")
    for path in (tmp_path / "fifo", tmp_path / "to-fifo", Path("/dev/null")):
        with pytest.raises(OSError, match=f"not a regular file: '{path}'"):
            read_regular(path)
    with pytest.raises(FileNotFoundError, match="missing"):
        read_regular(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
