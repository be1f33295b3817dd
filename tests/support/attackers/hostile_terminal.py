"""A terminal whose bytes are inspected, and answers that try to take it over."""

import os
import pty
import re
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from openvcha.api.foreign_text import is_visible
from openvcha.lab.status import LabNodeStatus, LabStatus, Overall, RunningTask, Warning_

HOSTILE = (
    "SHOWN\x1b[66;6H\x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\"
    "\x9b77;7H\x85\x00\x08\x7f\u202e\u2066\u200b\u2028\ufeff\u3164\U000e0041\rFORGED\nFORGED"
)
MARK = b"SHOWN"
# Escapes that rich itself writes: colours, hiding and showing the cursor, clearing lines.
OF_RICH = re.compile(rb"\x1b\[(?:\?25[lh]|[0-9;]*m|2K|1A|[0-9]*G)")


class Terminal:
    """The output written to a pseudo terminal."""

    def __init__(self) -> None:
        self.seen = b""

    def assert_harmless(self) -> None:
        """Fail if the bytes could move the cursor, hide text or forge a line."""
        assert MARK in self.seen, "the text was not even shown"
        left = OF_RICH.sub(b"", self.seen)
        assert b"\x1b" not in left, left
        assert not re.search(rb"\r(?!\n)FORGED|\n *FORGED|\x1b\[[57]m", self.seen), self.seen
        text = left.decode().replace("\r", "").replace("\n", "")
        assert not [letter for letter in text if not is_visible(letter)], left


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Make standard output and error a terminal, and read what arrives at its other end."""
    master, slave = pty.openpty()
    found = Terminal()

    def read() -> None:
        while True:
            try:
                data = os.read(master, 1 << 16)
            except OSError:  # the other end is closed
                return
            found.seen += data

    reading = threading.Thread(target=read)
    reading.start()
    with os.fdopen(slave, "w", encoding="utf-8", errors="backslashreplace") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("COLUMNS", "3000")
        monkeypatch.setenv("TERM", "xterm-256color")
        yield found
        stream.flush()
        monkeypatch.undo()
    reading.join(10)
    os.close(master)


def hostile(value: Any, *kept: str) -> Any:
    """Replace each text in a structure, except keys; the fields named in ``kept`` stay."""
    if isinstance(value, dict):
        return {key: each if key in kept else hostile(each, *kept) for key, each in value.items()}
    if isinstance(value, list):
        return [hostile(each, *kept) for each in value]
    return HOSTILE if isinstance(value, str) else value


MESSAGE = {"id": "x", "default_message": "text", "args": ["a"]}
EVENT = {
    "id": "1",
    "time": "2026-11-24T12:00:00Z",
    "severity": "INFO",
    "type": "t",
    "message": MESSAGE,
    "node": "n",
}
AUDIT = {
    "id": "c1",
    "time": "2026-11-24T12:00:00Z",
    "user": "bob",
    "origin": "192.0.2.7",
    "protocol": "rest",
    "operation": "op",
    "arguments": '{"spec":{}}',
    "result": "ERROR",
    "reason": MESSAGE,
    "task": "t",
}
TASK = {
    "description": MESSAGE,
    "service": "s",
    "operation": "o",
    "status": "SUCCEEDED",
    "start_time": "2026-11-24T12:00:00Z",
    "end_time": "2026-11-24T12:00:00Z",
    "user": "u",
    "error": {"error_type": "ERROR", "messages": [MESSAGE], "data": {"ssl_thumbprint": "AA"}},
    "progress": {"completed": 1, "total": 2, "message": MESSAGE},
}
JOIN_TOKEN = dict.fromkeys(("role", "ha_address", "issuer", "expires"), "x") | {
    "used": True,
    "valid": False,
}
HOST = {
    **dict.fromkeys(("host", "name", "address", "user", "fingerprint", "connection_state"), "x"),
    "port": 22,
    "maintenance": False,
    "datastores": [{"datastore": "x", "path": "x"}],
    "networks": [{"network": "x", "subnet": "x", "interface": "x"}],
}
ANSWERS: dict[str, Any] = {
    "/openvcha/events": [hostile(EVENT), hostile(EVENT, "time")],
    "/openvcha/audit": [hostile(AUDIT), hostile(AUDIT, "time")],
    "/cis/tasks?action=list": {HOSTILE: hostile(TASK), "the-id": hostile(TASK, "status")},
    "/vcenter/folder": [{"folder": HOSTILE}],
    "/vcenter/vm": [{"name": HOSTILE}],
}
ANSWERS_TO: dict[tuple[str, str], Any] = {
    ("GET", "/openvcha/join-tokens"): [hostile(JOIN_TOKEN)],
    ("GET", "/openvcha/hosts"): [hostile(HOST)],
    ("POST", "/openvcha/hosts"): hostile(HOST),
}


class Api:
    """An API that fills every answer with a hostile text."""

    async def call(
        self, method: str, path: str, body: Any = None, query: Sequence[tuple[str, str]] = ()
    ) -> Any:
        """Return a response whose texts are hostile."""
        del body, query
        if (method, path) in ANSWERS_TO:
            return ANSWERS_TO[method, path]
        if path in ANSWERS:
            return ANSWERS[path]
        if path.startswith("/cis/tasks"):
            return hostile(TASK, "status")
        if "vmw-task=true" in path:
            return HOSTILE
        if "check" in path:
            return {"errors": [hostile(MESSAGE)], "warnings": [hostile(MESSAGE)]}
        return dict.fromkeys(("value", "mode", "token", "ha_address", "expires"), HOSTILE) | {
            HOSTILE: [HOSTILE]
        }

    async def events(self, after: str) -> AsyncIterator[dict[str, Any]]:
        """Yield one hostile event."""
        del after
        yield hostile(EVENT)

    async def follow(self, task: str, silence: float = 1.0) -> AsyncIterator[dict[str, Any]]:
        """Yield the states of a hostile task."""
        del task, silence
        yield hostile(TASK, "status") | {"status": "RUNNING"}
        yield hostile(TASK, "status")


def lab_status() -> LabStatus:
    """Return the status of a lab whose texts are hostile."""
    node = LabNodeStatus(**dict.fromkeys(LabNodeStatus.__struct_fields__, HOSTILE))
    task = RunningTask(id=HOSTILE, operation=HOSTILE, status=HOSTILE, message=HOSTILE)
    return LabStatus(
        name=HOSTILE,
        directory=HOSTILE,
        state=Overall.DEGRADED,
        api=HOSTILE,
        mode=HOSTILE,
        api_problem=HOSTILE,
        warnings=(Warning_(error=HOSTILE, recommendation=HOSTILE),),
        nodes=(node,),
        task=task,
    )
