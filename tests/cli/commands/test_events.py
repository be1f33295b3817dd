"""`vcha events` and `vcha audit`: one line for each, or JSON for programs."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from openvcha.cli.main import app
from openvcha.cli.target import Target

EVENTS = [
    {
        "id": str(number),
        "time": "2026-11-24T12:00:00Z",
        "severity": severity,
        "type": "com.vmware.vcha.node.left",
        "message": {"id": "x", "default_message": f"text {number}", "args": []},
    }
    for number, severity in enumerate(("INFO", "WARNING", "ERROR"), 1)
]
AUDIT = {
    "id": "c1",
    "time": "2026-11-24T12:00:00Z",
    "user": "bob",
    "origin": "192.0.2.7",
    "protocol": "rest",
    "operation": "com.vmware.vcenter.vcha.cluster.passive.redeploy",
    "arguments": '{"spec":{}}',
    "result": "RESOURCE_BUSY",
    "reason": {"id": "x", "default_message": "Another one runs.", "args": []},
}


class Api:
    """A simulated API; a follower gets one more event and then the end."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def call(
        self, method: str, path: str, body: Any = None, query: Sequence[tuple[str, str]] = ()
    ) -> Any:
        self.asked.append((method, path, body, *query))
        return EVENTS[:2] if path.endswith("/events") else [AUDIT, {**AUDIT, "user": None}]

    async def events(self, after: str) -> AsyncIterator[dict[str, Any]]:
        self.asked.append(after)
        yield EVENTS[2]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    made = Api()

    @asynccontextmanager
    async def opened(_: Target) -> AsyncIterator[Api]:
        yield made

    monkeypatch.setattr(Target, "api", opened)
    return made


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_events_are_lines_with_severity_text_and_type(api: Api) -> None:
    """Oldest first, as many as asked for."""
    first, second = run("events", "-n", "2").splitlines()
    assert "INFO" in first
    assert second.endswith("text 2  com.vmware.vcha.node.left")
    assert api.asked == [("GET", "/openvcha/events", None, ("limit", "2"))]


def test_following_goes_on_after_the_last_that_was_shown(api: Api) -> None:
    """No event is shown twice or skipped."""
    lines = run("events", "--follow", "--json").splitlines()
    assert [json.loads(line) for line in lines] == EVENTS
    assert api.asked[-1] == "2"


def test_the_audit_is_a_table_with_the_reason(api: Api) -> None:
    """User, source, operation and outcome."""
    _, first, second = run("audit").splitlines()
    for text in (
        "bob",
        "192.0.2.7",
        "cluster.passive.redeploy",
        "RESOURCE_BUSY: Another one runs.",
    ):
        assert text in first
    assert "bob" not in second
    assert [json.loads(line)["user"] for line in run("audit", "--json").splitlines()] == [
        "bob",
        None,
    ]
    assert api.asked[0] == ("GET", "/openvcha/audit", None, ("limit", "50"))
