"""A recovery request that is unfinished keeps a node's parts from starting."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.node_files import identity

from openvcha.node.identity import save_identity
from openvcha.node.layout import Layout
from openvcha.node.process import status
from openvcha.node.process.logs import RotatingLog
from openvcha.node.process.managed_process import PartSpec
from openvcha.node.process.status import NodeStatus, load_status, save_status
from openvcha.node.recovery.recovery import RecoveryOutcome
from openvcha.node.recovery.request import RecoveryRequest, RequestKind, write_request
from openvcha.node.supervisor import supervisor
from openvcha.node.supervisor.supervisor import RETRY_SECONDS, Supervisor

pytestmark = pytest.mark.looptime
UNFINISHED = RecoveryOutcome(id="1", error="the store is separated", unfinished=True)


class NodeWithRequest:
    """A node with a pending request; ``outcomes`` are those of its attempts, ``ran`` its runs."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.layout, self.stop = Layout(directory), asyncio.Event()
        self.layout.make_directories()
        save_identity(directory, identity())
        write_request(self.layout, RecoveryRequest(wish=RequestKind.STANDALONE, id="1", begun=True))
        self.outcomes: list[RecoveryOutcome] = []
        self.attempts: list[float] = []
        self.ran = 0
        self.in_attempt: Callable[[], None] = lambda: None
        patch.setattr(supervisor, "Recovery", self._recovery)
        patch.setattr(Supervisor, "_reaper", _no_reaper)
        self.prepares: list[OSError | None] = []
        patch.setattr(Supervisor, "_prepare", lambda _: self._prepare())
        patch.setattr(Supervisor, "_run_parts", self._run_parts)
        engines: Any = object()
        self.supervisor = Supervisor(directory, engines=engines, rewrite=_unused)

    def _recovery(self, *_: Any, **__: Any) -> Any:
        return self

    async def carry_out(self, _: RecoveryRequest) -> RecoveryOutcome:
        self.attempts.append(asyncio.get_running_loop().time())
        self.in_attempt()
        return self.outcomes.pop(0)

    def _prepare(self) -> None:
        """Fail as often as ``prepares`` says."""
        if self.prepares and (error := self.prepares.pop(0)):
            raise error

    async def _run_parts(self, stop: asyncio.Event) -> None:
        self.ran += 1
        stop.set()


@contextlib.asynccontextmanager
async def _no_reaper(_: Supervisor) -> AsyncIterator[None]:
    yield


async def _unused(*_: Any) -> None:
    """Rewrite nothing."""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeWithRequest:
    return NodeWithRequest(tmp_path, monkeypatch)


async def test_nothing_starts_until_it_is_finished(node: NodeWithRequest) -> None:
    """It is tried again after a pause, until it succeeds."""
    node.outcomes = [UNFINISHED, UNFINISHED, RecoveryOutcome(id="1")]
    await node.supervisor.run(node.stop)
    assert node.ran == 1
    first, *later = node.attempts
    assert [one - first for one in later] == pytest.approx([RETRY_SECONDS, 2 * RETRY_SECONDS])


async def test_meanwhile_the_status_says_so_and_the_node_can_be_stopped(
    node: NodeWithRequest,
) -> None:
    """SIGTERM ends the pause."""
    node.outcomes = [UNFINISHED]
    node.in_attempt = node.stop.set
    await node.supervisor.run(node.stop)
    assert (node.ran, len(node.attempts)) == (0, 1)
    found = load_status(node.layout.root)
    assert found
    assert found.notes["recovery"] == "failed: the store is separated"


async def test_what_failed_for_good_starts_the_node(node: NodeWithRequest) -> None:
    """The store is not separated then."""
    node.outcomes = [RecoveryOutcome(id="1", error="vcha-2 answers")]
    await node.supervisor.run(node.stop)
    assert node.ran == 1


async def test_on_a_full_disk_the_node_waits(node: NodeWithRequest) -> None:
    """Nothing can be written: it neither ends nor starts half of its parts."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    node.outcomes, node.prepares = [RecoveryOutcome(id="1")] * 3, [full, full]
    notes: list[str] = []

    def noted() -> None:
        found = load_status(node.layout.root)
        notes.append(found.notes.get("start", "") if found else "")

    node.in_attempt = noted
    began = asyncio.get_running_loop().time()
    await node.supervisor.run(node.stop)
    assert node.ran == 1
    assert asyncio.get_running_loop().time() - began == pytest.approx(2 * RETRY_SECONDS)
    assert notes[0] == ""
    assert all("No space left on device" in text for text in notes[1:])
    found = load_status(node.layout.root)
    assert found
    assert "start" not in found.notes


@pytest.mark.parametrize("ran_before", [True, False])
async def test_on_a_disk_full_to_the_last_byte_the_reason_is_told(
    node: NodeWithRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    ran_before: bool,
) -> None:
    """In place of the last status, if there is one, and in any case on stderr; once."""
    old = NodeStatus(member="own", kind="data", pid=1, started=1, notes={"other": "x" * 300})
    if ran_before:
        save_status(node.layout.root, old)
    node.outcomes = [RecoveryOutcome(id="1")]
    running = asyncio.create_task(node.supervisor.run(node.stop))
    with monkeypatch.context() as patch:
        for module in (status, supervisor):
            patch.setattr(module, "write_private", _no_space)
        await asyncio.sleep(2.5 * RETRY_SECONDS)
        told = load_status(node.layout.root)
        assert (told is not None) is ran_before
        if told:
            assert told.pid == os.getpid()
            assert "No space left on device" in told.notes["start"]
        assert capfd.readouterr().err.count("No space left on device") == 1
    await running
    assert node.ran == 1


def _no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_an_attempt_on_a_full_disk_leaves_no_log_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One every 10 s would use up the descriptors."""
    closed: list[str] = []

    class Log(RotatingLog):
        def __init__(self, path: Path) -> None:
            if path.stem == "third":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            super().__init__(path)
            self._name = path.stem

        def close(self) -> None:
            super().close()
            closed.append(self._name)

    def plan(*_: Any) -> tuple[PartSpec, ...]:
        return tuple(PartSpec(name, ("true",), {}) for name in ("first", "second", "third"))

    Layout(tmp_path).make_directories()
    save_identity(tmp_path, identity(kind="witness"))
    engines: Any = object()
    node = Supervisor(tmp_path, plan=plan, engines=engines)
    monkeypatch.setattr(supervisor, "RotatingLog", Log)
    with pytest.raises(OSError, match="No space left"):
        node._prepare()
    assert sorted(closed) == ["first", "second"]


async def test_another_failure_of_the_start_ends_it(node: NodeWithRequest) -> None:
    """Its service manager reports it; no wait would help."""
    node.outcomes, node.prepares = [RecoveryOutcome(id="1")], [PermissionError(errno.EACCES, "no")]
    with pytest.raises(PermissionError):
        await node.supervisor.run(node.stop)
    assert node.ran == 0
