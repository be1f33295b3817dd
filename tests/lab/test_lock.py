"""Only one command at a time changes a lab as a whole."""

import asyncio
import fcntl
from pathlib import Path

import pytest

from openvcha.lab.lock import hold


async def test_the_second_waits_until_the_first_is_done(tmp_path: Path) -> None:
    """And says so, once."""
    order: list[str] = []
    inside, leave = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with hold(tmp_path / "lab", lambda: order.append("never")):
            inside.set()
            await leave.wait()
            order.append("first")

    async def second() -> None:
        def waiting() -> None:
            order.append("waits")
            leave.set()

        await inside.wait()
        async with hold(tmp_path / "lab", waiting):
            order.append("second")

    await asyncio.gather(first(), second())
    assert order == ["waits", "first", "second"]


async def test_a_directory_that_was_just_deleted_is_not_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset between opening and locking leaves a lock on a deleted directory."""
    lab = tmp_path / "lab"
    deleted: list[Path] = []

    def flock(handle: int, operation: int) -> None:
        if not deleted:
            lab.rmdir()
            deleted.append(lab)
        os_flock(handle, operation)

    os_flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    async with hold(lab, lambda: None):
        assert lab.is_dir()
        assert deleted
