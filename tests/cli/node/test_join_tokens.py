"""`vcha node token --revoke`: one line for a person, or JSON for programs."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from openvcha.cli.main import app
from openvcha.cli.target import Target


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the calls that a simulated API gets; it answers each of them with nothing."""
    seen: list[Any] = []

    class Api:
        async def call(self, *call: Any) -> None:
            seen.append(call)

    @asynccontextmanager
    async def opened(_: Target) -> AsyncIterator[Api]:
        yield Api()

    monkeypatch.setattr(Target, "api", opened)
    return seen


def test_a_revoked_token_is_told_as_asked(calls: list[Any]) -> None:
    """A program that asks for JSON gets JSON."""
    revoke = ("node", "token", "witness", "--revoke")
    told = CliRunner().invoke(app, revoke)
    assert told.stdout == "revoked the token of the witness\n"
    told = CliRunner().invoke(app, [*revoke, "--json"])
    assert json.loads(told.stdout) == {"role": "WITNESS", "revoked": True}
    path = "/openvcha/join-tokens?action=revoke"
    assert calls == [("POST", path, {"role": "WITNESS"})] * 2
