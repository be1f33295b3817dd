"""`vcha node create`: what it leaves when the node does not join."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from openvcha.cli.main import app
from openvcha.cli.node import manual_join
from openvcha.client.errors import RequestRefused
from openvcha.node.joining import JOINING
from openvcha.node.layout import NODE_KEY


def create(node: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> tuple[int, str]:
    """Run the command against a server that gives this error; return the code and stderr."""

    async def receive(*_: Any, **__: Any) -> dict[str, bytes]:
        assert (node / NODE_KEY).exists()
        body = {"error_type": kind, "messages": [{"default_message": "says why"}]}
        raise RequestRefused(400, body)

    monkeypatch.setattr(manual_join, "receive_files", receive)
    monkeypatch.setenv(manual_join.TOKEN, "token")
    words = ["node", "create", str(node), "--join", "https://127.0.0.1:1", "--role", "witness"]
    done = CliRunner().invoke(app, [*words, "--ha-address", "127.0.0.1"])
    return done.exit_code, done.stderr


@pytest.mark.parametrize("kind", ["INVALID_ARGUMENT", "NOT_ALLOWED_IN_CURRENT_STATE"])
def test_a_refused_node_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command may be repeated with another token, at once."""
    node = tmp_path / "n"
    code, said = create(node, monkeypatch, kind)
    assert (code, "says why" in said) == (1, True)
    assert not node.exists()


@pytest.mark.parametrize("kind", ["RESOURCE_BUSY", "INTERNAL_SERVER_ERROR"])
def test_a_node_that_is_not_refused_keeps_its_key(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token may be bound to it: the same command continues."""
    node = tmp_path / "n"
    code, _ = create(node, monkeypatch, kind)
    assert code == 1
    key = (node / NODE_KEY).read_bytes()
    assert (node / JOINING).exists()
    create(node, monkeypatch, kind)
    assert (node / NODE_KEY).read_bytes() == key
