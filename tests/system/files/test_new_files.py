"""A file that another program writes is noticed at once, with or without the kernel's help."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from openvcha.system.files import new_files
from openvcha.system.files.durable import write_durably
from openvcha.system.files.new_files import until_exists

NEVER = 3600.0
SOON = 0.01
DEADLINE = 60.0


@pytest.fixture
def no_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), os.fspath(folder))

    monkeypatch.setattr(new_files, "open_notices", refuse)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def begun(path: Path, poll_seconds: float) -> asyncio.Task[None]:
    """Start to wait, and return after its first unsuccessful check."""
    waiting = asyncio.create_task(until_exists(path, poll_seconds))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


async def test_a_file_that_is_there_is_not_waited_for(tmp_path: Path) -> None:
    """Even one that was written before the wait began."""
    (tmp_path / "request").touch()
    await asyncio.wait_for(until_exists(tmp_path / "request", NEVER), DEADLINE)


@pytest.mark.parametrize("durably", [True, False])
async def test_a_new_file_is_noticed_without_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durably: bool
) -> None:
    """Whether it is created in place or moved there; other files in the folder do not count."""
    monkeypatch.setattr(new_files, "SELDOM_SECONDS", NEVER)
    waiting = await begun(tmp_path / "request", NEVER)
    (tmp_path / "another").touch()
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    if durably:
        write_durably(tmp_path / "request", b"{}")
    else:
        (tmp_path / "request").write_bytes(b"{}")
    await asyncio.wait_for(waiting, DEADLINE)


async def test_a_folder_that_was_replaced_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports on the old one only."""
    monkeypatch.setattr(new_files, "SELDOM_SECONDS", SOON)
    folder = tmp_path / "node"
    folder.mkdir()
    waiting = await begun(folder / "request", NEVER)
    folder.rename(tmp_path / "before")
    folder.mkdir()
    (folder / "request").touch()
    await asyncio.wait_for(waiting, DEADLINE)


@pytest.mark.usefixtures("no_notices")
async def test_without_notices_it_is_looked_for(tmp_path: Path) -> None:
    """An account may have used up its inotify limit."""
    waiting = await begun(tmp_path / "request", SOON)
    (tmp_path / "request").touch()
    await asyncio.wait_for(waiting, DEADLINE)


async def test_a_folder_that_is_not_there_is_waited_for_too(tmp_path: Path) -> None:
    """There is nothing yet that the kernel could watch."""
    waiting = await begun(tmp_path / "later" / "request", SOON)
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "request").touch()
    await asyncio.wait_for(waiting, DEADLINE)


async def test_nothing_stays_open(tmp_path: Path) -> None:
    """Neither after a cancelled wait nor after a completed one."""
    before = descriptors()
    waiting = await begun(tmp_path / "request", NEVER)
    assert descriptors() == before + 1
    waiting.cancel()
    await asyncio.wait([waiting])
    (tmp_path / "request").touch()
    await until_exists(tmp_path / "request", NEVER)
    with pytest.raises(FileNotFoundError):
        new_files.open_notices(tmp_path / "nowhere")
    assert descriptors() == before
