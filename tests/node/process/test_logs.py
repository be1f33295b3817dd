"""A rotating log keeps its older files, whatever fails."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openvcha.node.process.logs import MAX_FILES, RotatingLog

LINE = b"x" * 9
LINES_PER_FILE = 10


@pytest.fixture
def log(tmp_path: Path) -> RotatingLog:
    """Return a log with all of its files full."""
    log = RotatingLog(tmp_path / "log", max_bytes=LINES_PER_FILE * (len(LINE) + 1))
    for number in range(LINES_PER_FILE * (MAX_FILES + 1)):
        log.write(b"%09d" % number)
    return log


def files(directory: Path) -> dict[str, list[str]]:
    return {path.name: path.read_text().splitlines() for path in sorted(directory.iterdir())}


def failing(code: int) -> Callable[..., int]:
    def opened(*_: Any, **__: Any) -> int:
        raise OSError(code, os.strerror(code))

    return opened


def test_a_full_file_is_renamed(log: RotatingLog, tmp_path: Path) -> None:
    """The oldest one is gone."""
    log.write(LINE)
    found = files(tmp_path)
    assert list(found) == ["log", *(f"log.{number}" for number in range(1, MAX_FILES + 1))]
    assert found["log"] == [LINE.decode()]
    assert found["log.1"][0] == f"{LINES_PER_FILE * MAX_FILES:09d}"


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOSPC])
def test_while_no_file_can_be_opened_the_older_ones_stay(
    log: RotatingLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The full one is used further, up to twice its size; then lines are lost, and counted."""
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing(code))
        for _ in range(LINES_PER_FILE + 5):
            log.write(LINE)
    found = files(tmp_path)
    assert found == before | {"log": before["log"] + [LINE.decode()] * LINES_PER_FILE}
    assert log.lost == 5
    log.write(LINE)
    lost, last = files(tmp_path)["log"]
    assert msgspec.json.decode(lost)["lost_lines"] == 5
    assert last == LINE.decode()
    assert files(tmp_path)["log.1"] == found["log"]


def test_a_failing_rename_leaves_no_descriptor_open(
    log: RotatingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried with each line."""
    monkeypatch.setattr(Path, "replace", failing(errno.EIO))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        log.write(LINE)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert log.lost == 5
