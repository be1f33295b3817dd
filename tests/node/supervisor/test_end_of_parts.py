"""Whatever ends a node's run, its background work and its parts are stopped in order."""

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.node_files import identity

from openvcha.node.identity import save_identity
from openvcha.node.layout import Layout
from openvcha.node.supervisor import supervisor
from openvcha.node.supervisor.supervisor import Supervisor


class Part:
    """A SIMULATED part that notes its end."""

    def __init__(self, name: str, ended: list[str]) -> None:
        self.spec = SimpleNamespace(name=name, late=False)
        self.status = None
        self.group = name
        self._ended = ended

    async def stop(self) -> None:
        self._ended.append(self.spec.name)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """Return a supervisor whose store and parts are SIMULATED, and without background jobs."""
    Layout(tmp_path).make_directories()
    save_identity(tmp_path, identity())

    async def jobs(_: Any) -> None:
        await asyncio.Event().wait()

    async def start(*_: Any) -> None:
        """Start nothing."""

    async def rewrite(*_: Any) -> None:
        """Rewrite nothing."""

    store: Any = contextlib.nullcontext()
    monkeypatch.setattr(supervisor, "run_jobs", jobs)
    monkeypatch.setattr(Supervisor, "_store", lambda _: store)
    monkeypatch.setattr(Supervisor, "_start_parts", start)
    engines: Any = object()
    return Supervisor(tmp_path, engines=engines, rewrite=rewrite)


async def test_an_error_at_the_start_of_the_parts_leaves_none_running(
    node: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a background job; the error ends the supervisor, which is started again."""
    ended: list[str] = []
    begun, ending, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def jobs(_: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()
            ended.append("jobs")
            raise ValueError("a job fails as it ends")

    async def fail(*_: Any) -> None:
        await begun.wait()
        raise OSError("an error at the start")

    monkeypatch.setattr(supervisor, "run_jobs", jobs)
    monkeypatch.setattr(Supervisor, "_start_parts", fail)
    monkeypatch.setattr(node, "_parts", [Part("etcd", ended), Part("patroni", ended)])
    running = asyncio.create_task(node._run_parts(asyncio.Event()))
    await ending.wait()
    assert ended == []
    may_end.set()
    with pytest.raises(OSError, match="at the start"):
        await running
    assert ended == ["jobs", "patroni", "etcd"]
    log = (tmp_path / "logs" / "supervisor.jsonl").read_text()
    assert "a job fails as it ends" in log


@pytest.mark.parametrize("pause", [0, 0.05], ids=["before the start", "after it"])
async def test_an_error_of_the_wait_for_a_request_ends_the_supervisor(
    node: Supervisor, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    """It must not restart all parts, again and again without a pause."""
    ended: list[str] = []

    async def fail(_: Layout) -> None:
        await asyncio.sleep(pause)
        raise PermissionError("the request is not ours")

    monkeypatch.setattr(supervisor, "wait_for_request", fail)
    monkeypatch.setattr(node, "_parts", [Part("etcd", ended)])
    with pytest.raises(PermissionError, match="not ours"):
        await node._run_parts(asyncio.Event())
    assert ended == ["etcd"]
