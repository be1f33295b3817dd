"""`vcha node store defragment`: its report of the members, and when it has not helped."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from tests.support.simulated.roomy import StoreWithMembers, simulated

from openvcha.cli.node import store as command
from openvcha.events.audit import AuditLog
from openvcha.node.identity import StoreLimits
from openvcha.node.layout import Layout

QUOTA = 1000


def on(store: StoreWithMembers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command reach this store."""

    async def reached(_: Path, work: Callable[[StoreWithMembers], Awaitable[Any]]) -> Any:
        return await work(store)

    identity = SimpleNamespace(member="a", store=StoreLimits(quota_bytes=QUOTA))
    monkeypatch.setattr(command, "_with_store", reached)
    monkeypatch.setattr(command, "node_directory", lambda directory: directory)
    monkeypatch.setattr(command, "load_identity", lambda _: identity)


def test_each_member_is_named_with_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even a member that does not answer; the user is audited, as the store accepts writes then."""
    store = StoreWithMembers(simulated(100, a=1000, b=1000, dead=1000))
    on(store, monkeypatch)
    Layout(tmp_path).make_directories()
    command.defragment(tmp_path)
    said = capsys.readouterr().out
    assert "a: 100 of 1000 bytes (10 %), 100 in use" in said
    assert "dead: does not respond; it was not defragmented" in said
    assert said.rstrip().endswith("the store accepts writes")
    (record,) = asyncio.run(AuditLog(store).list())
    assert record.operation == "store.defragment"


def test_what_is_full_without_its_history_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error says what helps."""
    members = simulated(980, a=1000, b=1000, c=1000)
    members.takes = 0.0  # a command has its own loop, in real time
    on(StoreWithMembers(members), monkeypatch)
    Layout(tmp_path).make_directories()
    with pytest.raises(typer.Exit):
        command.defragment(tmp_path)
    assert "quota_bytes" in capsys.readouterr().err
