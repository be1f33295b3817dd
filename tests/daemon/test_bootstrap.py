"""How a directory with a boot file becomes a node, whatever happens meanwhile."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.join_api import (
    ADDRESS,
    IDENTITY_CONTENT,
    TOKEN,
    JoinApi,
    refused,
    serving_joins,
)

from openvcha.daemon.bootstrap import NotBootable, bootstrap, load_boot
from openvcha.infrastructure.boot import BOOT_FILE
from openvcha.node import join_client
from openvcha.node.identity import IDENTITY
from openvcha.node.joining import JOINING
from openvcha.node.layout import BOOT, NODE_CERTIFICATE, NODE_KEY, Layout
from openvcha.node.process.lock import NodeRuns, lock_node
from openvcha.node.process.status import BOOTSTRAP, load_status
from openvcha.node.security.certificates import certified_key, request_of, requested_key


@dataclass
class NewNode:
    """A directory that its creator has prepared, and the API that its boot file names."""

    root: Path
    api: JoinApi

    async def run(self, stop: asyncio.Event | None = None) -> bool:
        async with asyncio.timeout(60):
            return await bootstrap(self.root, stop or asyncio.Event())

    @property
    def note(self) -> str | None:
        status = load_status(self.root)
        return status.notes.get(BOOTSTRAP) if status else None

    def assert_node(self) -> None:
        """Check that it is complete, and that nothing of its beginning is left."""
        assert (self.root / IDENTITY).read_bytes() == IDENTITY_CONTENT
        assert not (self.root / BOOT_FILE).exists()
        assert not (self.root / JOINING).exists()
        own = request_of((self.root / NODE_KEY).read_bytes(), ADDRESS)
        certificate = (self.root / NODE_CERTIFICATE).read_bytes()
        assert certified_key(certificate) == requested_key(own, ADDRESS)
        found = [path for path in self.root.rglob("*") if path.is_file()]
        assert not [path for path in found if TOKEN.encode() in path.read_bytes()]


@pytest.fixture
async def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NewNode]:
    monkeypatch.setattr(join_client, "RETRY_SECONDS", 0.0)
    async with serving_joins(tmp_path) as api:
        api.prepare(tmp_path / "node")
        yield NewNode(tmp_path / "node", api)


def test_the_boot_file_has_one_name() -> None:
    """The infrastructures write it; the node reads it without loading them."""
    assert BOOT == BOOT_FILE


async def test_it_becomes_a_node(new: NewNode) -> None:
    """The token is sent once, and is nowhere afterwards; the next start just runs."""
    assert await new.run()
    new.assert_node()
    (call,) = new.api.calls
    assert (call["token"], call["role"], call["ha_address"]) == (TOKEN, "PASSIVE", ADDRESS)
    assert new.note is None
    assert await new.run()
    assert len(new.api.calls) == 1


async def test_it_waits_for_a_server_that_is_busy(new: NewNode) -> None:
    """And says what for."""
    said: list[str | None] = []
    new.api.replies += [refused("RESOURCE_BUSY", "first"), refused("SERVICE_UNAVAILABLE", "then")]
    new.api.on_call = lambda: said.append(new.note)
    assert await new.run()
    assert said == [None, "RESOURCE_BUSY: first", "SERVICE_UNAVAILABLE: then"]
    new.assert_node()


async def test_it_tries_the_servers_in_turn(new: NewNode) -> None:
    """One that is silent, or that another authority certifies, decides nothing."""
    new.api.prepare(new.root, join=("https://127.0.0.1:1", new.api.url))
    assert await new.run()
    new.assert_node()


@pytest.mark.parametrize("kind", ["INVALID_ARGUMENT", "NOT_ALLOWED_IN_CURRENT_STATE"])
async def test_a_refused_node_leaves_nothing_and_says_why(new: NewNode, kind: str) -> None:
    """Also to whoever starts it again."""
    new.api.replies.append(refused(kind, "the token is used"))
    with pytest.raises(NotBootable, match="the token is used"):
        await new.run()
    assert {path.name for path in new.root.iterdir()} == {"logs", "run"}
    assert not Layout(new.root).supervisor_pid.exists()
    assert "the token is used" in (new.note or "")
    with pytest.raises(NotBootable, match="the token is used"):
        await new.run()


async def test_it_calls_again_after_an_error_of_the_server(new: NewNode) -> None:
    """That decides nothing, and must not fail the task that creates the node."""
    new.api.replies.append(refused("INTERNAL_SERVER_ERROR", "see the log"))
    assert await new.run()
    new.assert_node()
    keys = {call["certificate_request"] for call in new.api.calls}
    assert len({requested_key(key.encode(), ADDRESS) for key in keys}) == 1


async def test_it_stops_when_told_to(new: NewNode) -> None:
    """While it waits for its server."""
    stop = asyncio.Event()
    new.api.prepare(new.root, join=("https://127.0.0.1:1",))
    running = asyncio.create_task(new.run(stop))
    async with asyncio.timeout(60):
        while not new.note:  # noqa: ASYNC110 - the status file's
            await asyncio.sleep(0.01)
    assert Layout(new.root).supervisor_pid.read_text() == str(os.getpid())
    assert "does not respond" in (new.note or "") or "cannot be reached" in (new.note or "")
    stop.set()
    assert not await running
    assert not Layout(new.root).supervisor_pid.exists()
    assert (new.root / BOOT_FILE).exists()


class Crash(BaseException):
    """The end of the process."""


@dataclass
class CrashingFiles:
    """Files whose n-th rename or deletion is the last thing that the process does, or intends."""

    dies_at: int
    after: bool
    count: int = 0

    @property
    def died(self) -> bool:
        return self.count >= self.dies_at

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.died and not self.after:
                raise Crash
            made = real(*arguments, **options)
            if self.died:
                raise Crash
            return made

        return change


@pytest.mark.parametrize("after", [False, True])
async def test_it_survives_a_crash_anywhere(
    new: NewNode, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Started again it continues, with the same key; the token does not outlive that."""
    files = CrashingFiles(0, after)
    while files.died:
        files = CrashingFiles(files.dies_at + 1, after)
        shutil.rmtree(new.root)
        new.api.prepare(new.root)
        new.api.calls.clear()
        with monkeypatch.context() as patch, contextlib.suppress(Crash):
            patch.setattr(Path, "replace", files.wrap(Path.replace))
            patch.setattr(Path, "unlink", files.wrap(Path.unlink))
            await new.run()
        assert await new.run()
        new.assert_node()
        keys = {call["certificate_request"] for call in new.api.calls}
        assert len({requested_key(key.encode(), ADDRESS) for key in keys}) == 1
    assert files.dies_at > 10


async def test_only_one_program_makes_it_a_node(new: NewNode) -> None:
    """The second one says so, and touches nothing."""
    layout = Layout(new.root)
    layout.make_directories()
    with lock_node(layout.lock), pytest.raises(NodeRuns):
        await new.run()
    assert new.api.calls == []


async def test_a_complete_node_never_joins_again(new: NewNode) -> None:
    """A boot file that somebody puts there later is deleted, unread."""
    (new.root / IDENTITY).write_bytes(b"{}")
    (new.root / BOOT_FILE).write_bytes(b"nonsense")
    assert await new.run()
    assert not (new.root / BOOT_FILE).exists()
    assert new.api.calls == []


def _readable(path: Path) -> None:
    path.chmod(0o640)


def _writable(path: Path) -> None:
    path.chmod(0o602)


def _executable(path: Path) -> None:
    path.chmod(0o700)


def _foreign(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 65534, 65534)


def _symbolic(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _hard(path: Path) -> None:
    os.link(path, path.with_name("another"))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _endless(path: Path) -> None:
    path.write_bytes(b" " * (1 << 16) + path.read_bytes())


def _garbage(path: Path) -> None:
    path.write_bytes(b"\xff{")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_readable, "mode 640"),
        (_writable, "mode 602"),
        (_executable, "mode 700"),
        (_foreign, "another account"),
        (_symbolic, "symbolic link"),
        (_hard, "hard link"),
        (_fifo, "not a regular file"),
        (_endless, "does not describe a node"),
        (_garbage, "cannot be read"),
    ],
)
async def test_a_boot_file_is_its_owner_s_alone(
    new: NewNode, change: Callable[[Path], None], said: str
) -> None:
    """Whoever else could have read or placed it could have the token, or choose the cluster."""
    change(new.root / BOOT_FILE)
    with pytest.raises(NotBootable, match=said):
        await new.run()
    assert new.api.calls == []


@pytest.mark.parametrize("changes", [{"role": "active"}, {"role": "../x"}, {"join": ()}])
async def test_a_boot_file_that_describes_no_node_is_refused(
    new: NewNode, changes: dict[str, Any]
) -> None:
    """Whatever wrote it."""
    new.api.prepare(new.root, **changes)
    with pytest.raises(NotBootable, match="does not describe a node"):
        load_boot(new.root)
