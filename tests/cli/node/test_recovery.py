"""`vcha node make-standalone` and `vcha node promote`: requests, and what they tell a person."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import typer
from tests.support.node_files import identity

from openvcha.cli.node import recovery as command
from openvcha.daemon.recovery import store_refusal
from openvcha.daemon.recovery.store_refusal import OwnStore
from openvcha.node.identity import load_identity, save_identity
from openvcha.node.layout import Layout
from openvcha.node.recovery.request import RecoveryRequest, RequestKind, load_request, write_request
from openvcha.node.recovery.survey import Survey
from openvcha.store.errors import AuthenticationFailed, OutcomeUnknown, StoreFull

REQUEST = RecoveryRequest(wish=RequestKind.STANDALONE, id="1")


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Create a node that is off, with data and a store."""
    made = Layout(tmp_path)
    made.make_directories()
    (made.etcd_data / "member").mkdir(parents=True)
    made.pgdata.mkdir()
    (made.pgdata / "PG_VERSION").write_text("15")
    save_identity(tmp_path, identity(name="vcha-1"))
    monkeypatch.setattr(command, "node_directory", lambda directory: directory)
    return made


def test_a_node_that_is_off_is_asked_with_the_time_and_the_boot(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By these its supervisor recognizes an old request; the command says how to withdraw it."""

    async def nobody(*_: object) -> None:
        """Return no reason against it."""

    async def silence(*_: object) -> Survey:
        return Survey(load_identity(layout.root), None, None, None, ())

    monkeypatch.setattr(command, "ask_all", silence)
    monkeypatch.setattr(command, "check_standalone", nobody)
    monkeypatch.setattr(command, "boot_id", lambda: "this-boot")
    with pytest.raises(typer.Exit):
        command.make_standalone(layout.root, yes=True)
    found = load_request(layout)
    assert found
    assert (found.wish, found.begun, found.boot) == (RequestKind.STANDALONE, False, "this-boot")
    assert found.asked.endswith("+00:00")
    said = capsys.readouterr().out
    assert "within 10 min" in said
    assert "--cancel" in said


def test_a_request_is_withdrawn(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Once; then there is none."""
    write_request(layout, REQUEST)
    command.make_standalone(layout.root, cancel=True)
    assert "the request was withdrawn" in capsys.readouterr().out
    assert load_request(layout) is None
    with pytest.raises(typer.Exit):
        command.make_standalone(layout.root, cancel=True)
    assert "there is no request" in capsys.readouterr().err


def test_a_request_that_has_begun_is_not_withdrawn(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = msgspec.structs.replace(REQUEST, begun=True)
    write_request(layout, begun)
    with pytest.raises(typer.Exit):
        command.make_standalone(layout.root, cancel=True)
    assert "never start the others" in capsys.readouterr().err
    assert load_request(layout) == begun


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), AuthenticationFailed("no"), StoreFull("full"), OutcomeUnknown("sent")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("own", list(OwnStore))
def test_only_a_store_without_a_quorum_is_a_reason_to_stand_alone(
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    own: OwnStore,
) -> None:
    """Regression: a slow or full store counted as one without a quorum."""
    advised = isinstance(error, TimeoutError) and own is OwnStore.NO_QUORUM

    @asynccontextmanager
    async def failing(_: Path) -> AsyncIterator[None]:
        raise error
        yield

    async def member(*_: object) -> OwnStore:
        return own

    monkeypatch.setattr(command, "open_services", failing)
    monkeypatch.setattr(command, "ask_own_store", member, raising=False)
    monkeypatch.setattr(command, "is_running", lambda _: True)
    monkeypatch.setattr(store_refusal, "PAUSE_SECONDS", 0)
    with pytest.raises(typer.Exit):
        command.promote(layout.root, yes=True)
    said = capsys.readouterr().err
    assert "vcha-1 cannot be made the primary: the store" in said
    assert ("make-standalone" in said) is advised
