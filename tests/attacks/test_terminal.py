"""Text of others reaches a terminal as text: it moves no cursor, sets no title, forges no line."""

import ast
import os
import pty
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from rich.text import Text

import openvcha.cli
from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.printable import is_visible, printable, printable_json
from openvcha.api.structures import LocalizableMessage
from openvcha.api_server.auth.user_roles import Role
from openvcha.api_server.auth.users import User
from openvcha.cli.commands import user
from openvcha.cli.lab import commands as lab_commands
from openvcha.cli.lab import logs
from openvcha.cli.main import app
from openvcha.cli.output.console import console, narrator, simple_table
from openvcha.cli.output.errors import reporting_errors
from openvcha.cli.output.plain import say, say_exactly
from openvcha.cli.target import Target
from openvcha.client.errors import CommandError, RequestRefused
from openvcha.lab import places
from openvcha.lab.state import Lab
from openvcha.lab.status import LabStatus, NodeStatus, Overall, RunningTask, Warning_
from openvcha.node.layout import Layout
from openvcha.node.process.logs import wrap

HOSTILE = (
    "SHOWN\x1b[66;6H\x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\"
    "\x9b77;7H\x85\x00\x08\x7f\u202e\u2066\u200b\u2028\ufeff\u3164\U000e0041\rFORGED\nFORGED"
)
MARK = b"SHOWN"
# What rich itself writes: colours, the cursor hidden and shown, lines cleared and left.
OF_RICH = re.compile(rb"\x1b\[(?:\?25[lh]|[0-9;]*m|2K|1A|[0-9]*G)")


class Terminal:
    """What has been written to a pseudo terminal."""

    def __init__(self) -> None:
        self.seen = b""

    def assert_harmless(self) -> None:
        assert MARK in self.seen, "the text was not even shown"
        left = OF_RICH.sub(b"", self.seen)
        assert b"\x1b" not in left, left
        assert not re.search(rb"\r(?!\n)FORGED|\nFORGED|\x1b\[[57]m", self.seen), self.seen
        text = left.decode().replace("\r", "").replace("\n", "")
        assert not [letter for letter in text if not is_visible(letter)], left


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Make standard output and error a terminal, and read what comes out at its other end."""
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
    """Replace each text in a structure, keys apart; those of the names in ``kept`` stay."""
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
ANSWERS: dict[str, Any] = {
    "/openvcha/events": [hostile(EVENT), hostile(EVENT, "time")],
    "/openvcha/audit": [hostile(AUDIT), hostile(AUDIT, "time")],
    "/cis/tasks": {"the-id": hostile(TASK), HOSTILE: hostile(TASK, "status", "start_time")},
    "/cis/tasks?action=list": {"the-id": hostile(TASK)},
    "/cis/tasks/the-id": hostile(TASK, "status"),
}


class Api:
    """An API whose every answer is a hostile text."""

    async def call(
        self, method: str, path: str, body: Any = None, query: Sequence[tuple[str, str]] = ()
    ) -> Any:
        del method, body, query
        if path in ANSWERS:
            return ANSWERS[path]
        if path.startswith("/cis/tasks"):
            return {"the-id": hostile(TASK)}
        if "check" in path:
            return {"errors": [hostile(MESSAGE)], "warnings": [hostile(MESSAGE)]}
        return {"value": HOSTILE, HOSTILE: [HOSTILE], "token": HOSTILE, "ha_address": HOSTILE}

    async def events(self, after: str) -> AsyncIterator[dict[str, Any]]:
        del after
        yield hostile(EVENT)

    async def follow(self, task: str, silence: float = 1.0) -> AsyncIterator[dict[str, Any]]:
        del task, silence
        yield hostile(TASK, "status") | {"status": "RUNNING"}
        yield hostile(TASK, "status")


@pytest.fixture(autouse=True)
def _api(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def opened(_: Target) -> AsyncIterator[Api]:
        yield Api()

    monkeypatch.setattr(Target, "api", opened)


def run(*words: str) -> None:
    with pytest.raises(SystemExit):
        app(list(words), prog_name="vcha")


@pytest.mark.parametrize(
    "words",
    [
        "events",
        "events --json",
        "events --follow",
        "audit",
        "audit --json",
        "task list",
        "task list --json",
        "task get the-id",
        "task follow the-id",
        "call cluster.get",
        "node token passive",
        "node token passive --json",
        "passive check --folder f --placement-name n",
        "mode set MAINTENANCE",
        "undeploy --yes",
        f"task get {HOSTILE.replace(' ', '')}",
        f"lab status --name {HOSTILE.replace(' ', '')}",
        f"{HOSTILE.replace(' ', '')}",
        f"events --{HOSTILE.replace(' ', '')}",
        f"--{HOSTILE.replace(' ', '')}",
        f"call {HOSTILE.replace(' ', '')}",
    ],
)
def test_what_the_server_sends_is_text(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command, for a table, for JSON and in an error."""
    with terminal(monkeypatch) as seen:
        run(*words.split(" "))
    seen.assert_harmless()


def lab_status() -> LabStatus:
    node = NodeStatus(**dict.fromkeys(NodeStatus.__struct_fields__, HOSTILE))
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


@pytest.mark.parametrize("words", ["lab status", "lab status --json"])
def test_a_lab_and_its_inventory_are_text(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of nodes, hosts, VMs, reasons of its health, its task."""

    async def look(_: Lab) -> LabStatus:
        return lab_status()

    monkeypatch.setattr(lab_commands, "look", look)
    monkeypatch.setattr(places, "find", lambda *_: Lab(Path("/nowhere")))
    with terminal(monkeypatch) as seen:
        run(*words.split())
    seen.assert_harmless()


@pytest.mark.parametrize("words", ["user list", "user list --json"])
def test_names_of_users_are_text(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a name is refused; but who steals a node may have written into the store."""
    one = User(name=HOSTILE, role=Role.READ_ONLY, password_hash="x", generation="x")
    monkeypatch.setattr(user, "_with_users", lambda *_: [one])
    with terminal(monkeypatch) as seen:
        run(*words.split())
    seen.assert_harmless()


@pytest.mark.parametrize("flag", ["", "--json"])
def test_what_a_node_says_of_itself_is_text(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its status file may be another account's."""
    status = {
        "member": HOSTILE,
        "kind": HOSTILE,
        "pid": 1,
        "started": 0,
        "parts": [{"name": HOSTILE, "state": "RUNNING", "last_exit": HOSTILE}],
        "notes": {HOSTILE: HOSTILE},
        "view": {
            "role": "ACTIVE",
            "contact": "ISOLATED",
            "since": HOSTILE,
            "waits_for": [HOSTILE],
        },
    }
    path = Layout(tmp_path).status
    path.parent.mkdir()
    path.write_bytes(msgspec.json.encode(status))
    with terminal(monkeypatch) as seen:
        run("node", "status", str(tmp_path), *flag.split())
    seen.assert_harmless()


LINES = [
    HOSTILE.replace("\n", ""),
    msgspec.json.encode({"event": HOSTILE, HOSTILE: HOSTILE, "level": HOSTILE}).decode(),
    msgspec.json.encode(
        {"error_severity": HOSTILE, "message": HOSTILE, "detail": HOSTILE}
    ).decode(),
    msgspec.json.encode({"line": HOSTILE, "time": HOSTILE}).decode(),
]


@pytest.mark.parametrize("raw", [False, True])
def test_log_lines_are_text(raw: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every format that is understood, and as they are in the files."""
    (tmp_path / "etcd.jsonl").write_text("\n".join(LINES) + "\n")

    async def folder(*_: object) -> Path:
        return tmp_path

    monkeypatch.setattr(logs, "_folder", folder)
    monkeypatch.setattr(places, "find", lambda *_: Lab(tmp_path))
    with terminal(monkeypatch) as seen:
        run("lab", "logs", "node", *(["--raw"] if raw else []))
    seen.assert_harmless()


ERROR = ApiError(
    ErrorType.ERROR, LocalizableMessage(id="x", default_message=HOSTILE, args=(HOSTILE,))
)


@pytest.mark.parametrize(
    "error",
    [
        ERROR,
        CommandError(HOSTILE),
        RequestRefused(400, {"error_type": HOSTILE, "messages": [{"default_message": HOSTILE}]}),
        OSError(2, HOSTILE, HOSTILE),
        ValueError(HOSTILE),
        typer.BadParameter(HOSTILE),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("traced", ["", "1"])
def test_errors_are_text(error: Exception, traced: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wrote what they quote, with the traceback too."""
    monkeypatch.setenv("OPENVCHA_TRACEBACK", traced)

    async def refused(_: Lab) -> LabStatus:
        raise error

    monkeypatch.setattr(lab_commands, "look", refused)
    monkeypatch.setattr(places, "find", lambda *_: Lab(Path("/nowhere")))
    with terminal(monkeypatch) as seen:
        run("lab", "status")
    seen.assert_harmless()


def shown_step() -> None:
    out = narrator()
    with reporting_errors(), out.step(HOSTILE):
        out.task(hostile(TASK, "status"))
    out.say(HOSTILE)
    out.code(HOSTILE)


def shown_table() -> None:
    table = simple_table("a", "b")
    table.add_row(HOSTILE, Text(HOSTILE, "red"))
    console().print(table)
    console().print(Text.assemble((HOSTILE, "red"), HOSTILE))


@pytest.mark.parametrize(
    "work", [shown_step, shown_table, lambda: say(HOSTILE), lambda: say_exactly(HOSTILE)]
)
def test_each_way_to_print_shows_text_as_text(
    work: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next command is safe too."""
    with terminal(monkeypatch) as seen:
        work()
    seen.assert_harmless()


@pytest.mark.parametrize(
    "text",
    [*re.split("SHOWN|FORGED|(?<=[HmGJ])", HOSTILE)[:2], "\nFORGED", "\rFORGED", "\x1b[5m"]
    + [letter for letter in HOSTILE if letter not in "\r\n" and not is_visible(letter)],
)
def test_the_look_at_the_bytes_does_see_an_escape(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed past these ways is met."""
    with terminal(monkeypatch) as seen:
        typer.echo("SHOWN" + (text or "\x1b"), color=True)
    with pytest.raises(AssertionError):
        seen.assert_harmless()


def test_nothing_is_printed_past_them() -> None:
    """`typer.echo`, `print` and consoles are in the two modules that make text harmless."""
    ways = {"echo", "secho", "confirm", "prompt", "print_exc", "Console", "print"}
    met = []
    room = Path(openvcha.cli.__file__).parent
    for path in room.rglob("*.py"):
        if str(path.relative_to(room)) in {"output/plain.py", "output/console.py"}:
            continue
        calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
        met += [f"{path.name}: {ast.unparse(n)}" for n in calls if _bare(n.func) in ways]
    assert met == ["call.py: typer.echo(ctx.get_help())"]


def _bare(function: ast.expr) -> str:
    """Name a function of typer's or of Python's own; methods of screens do not count."""
    if isinstance(function, ast.Attribute) and ast.unparse(function.value) in {
        "typer",
        "click",
        "rich",
        "traceback",
        "sys.stdout",
        "sys.stderr",
    }:
        return function.attr
    own = isinstance(function, ast.Name) and function.id in {"print", "print_exc", "Console"}
    return ast.unparse(function) if own else ""


def test_log_files_hold_no_control_characters() -> None:
    """Whoever looks at them with `cat` is as safe."""
    line = wrap("part", HOSTILE.replace("\n", "").encode()).decode()
    assert [letter for letter in line if not is_visible(letter)] == []


def test_json_says_the_same() -> None:
    """An escape of JSON is no other text."""
    data = msgspec.json.encode({HOSTILE: [HOSTILE]}).decode()
    assert msgspec.json.decode(printable_json(data)) == {HOSTILE: [HOSTILE]}


@pytest.mark.parametrize("text", ["vcha-2 löst aus → «ok» … 日本 😀", "a\\b", ""])
def test_text_that_is_seen_stays(text: str) -> None:
    """Names of people and places are shown as they are written."""
    assert printable(text) == text
