"""Others' text reaches a terminal as text: it moves no cursor, sets no title, forges no line.

`test_every_command.py` drives each command; this covers the functions with which all of them print.
"""

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import typer
from rich.text import Text
from tests.support.attackers.hostile_terminal import HOSTILE, TASK, hostile, terminal
from tests.support.attackers.raw_output import raw_output

import openvcha
from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.foreign_text import is_visible, printable, printable_json
from openvcha.api.structures import LocalizableMessage
from openvcha.cli.lab import commands as lab_commands
from openvcha.cli.lab import logs
from openvcha.cli.main import app
from openvcha.cli.output.console import console, narrator, simple_table
from openvcha.cli.output.errors import reporting_errors
from openvcha.cli.output.plain import say, say_exactly
from openvcha.client.errors import CommandError, RequestRefused
from openvcha.lab import folders
from openvcha.lab.state import Lab
from openvcha.lab.status import LabStatus
from openvcha.node.process.logs import wrap


def run(*words: str) -> None:
    with pytest.raises(SystemExit):
        app(list(words), prog_name="vcha")


WORD = HOSTILE.replace(" ", "")


@pytest.mark.parametrize(
    "words",
    [WORD, f"--{WORD}", f"events --{WORD}", f"call {WORD}", f"lab status --name {WORD}"],
)
def test_wrong_usage_is_text(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script may build a command line from others' text."""
    with terminal(monkeypatch) as seen:
        run(*words.split(" "))
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
    """In every format that is recognized, and as stored in the files."""
    (tmp_path / "etcd.jsonl").write_text("\n".join(LINES) + "\n")

    async def folder(*_: object) -> Path:
        return tmp_path

    monkeypatch.setattr(logs, "_folder", folder)
    monkeypatch.setattr(folders, "find", lambda *_: Lab(tmp_path))
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
def test_errors_are_text(
    error: Exception, traced: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote the text they quote, including in the traceback."""
    monkeypatch.setenv("OPENVCHA_TRACEBACK", traced)

    async def refused(_: Lab) -> LabStatus:
        raise error

    monkeypatch.setattr(lab_commands, "lab_status", refused)
    monkeypatch.setattr(folders, "find", lambda *_: Lab(tmp_path))
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
    """Output that bypasses these functions is detected."""
    with terminal(monkeypatch) as seen:
        typer.echo("SHOWN" + (text or "\x1b"), color=True)
    with pytest.raises(AssertionError):
        seen.assert_harmless()


ESCAPING = {"cli/output/plain.py", "cli/output/console.py"}
ALLOWED = {
    "cli/commands/call.py": ["typer.echo"],  # the help, which is our own
    "cli/lab/commands.py": ["sys.stdout"],  # asks whether it is a terminal
    # A part's output, which the supervisor reads: heartbeats, and lines of JSON.
    "infrastructure/local/switch.py": ["os.write", "sys.stderr"],  # its log, made printable
    "cli/node/programs.py": ["sys.stdout", "sys.stdout"],
    "daemon/host_agent.py": ["sys.stdout"],  # an answer, which a data node reads
    "node/process/heartbeat.py": ["os.write"],
    "node/process/logs.py": ["os.write", "print"],  # files, and a part's output
    "node/address/interface/helper.py": ["sys.exit(main(sys.argv[1:]))"],  # a number
    # Patroni and its helper, whose output the supervisor escapes.
    "node/patroni/launcher.py": [
        "SystemExit('the supervisor exited before Patroni was allowed to start')",
        "SystemExit(str(error))",
    ],
    "node/postgres/post_bootstrap.py": [
        "SystemExit(f'{directory} has no password for the role {APPLICATION_USER}')"
    ],
    "system/accounts/terminal.py": ["'/dev/tty'", "os.write"]
    + 2 * ["sys.__stderr__"],  # it escapes by itself
}


def test_nothing_is_printed_past_them() -> None:
    """Only the two modules that make text harmless print; each other place has its reason above."""
    room = Path(openvcha.__file__).parent
    met = {
        name: sorted(found)
        for path in room.rglob("*.py")
        if (name := str(path.relative_to(room))) not in ESCAPING
        if (found := raw_output(path.read_text()))
    }
    assert met == ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "print(x)",
        "work(on_line=print)",
        "from typer import echo",
        "click.secho(x)",
        "Console(stderr=True)",
        "input(x)",
        "traceback.print_exc()",
        "sys.stderr.write(x)",
        "sys.stdout.buffer.write(x)",
        "out = sys.__stderr__",
        "from sys import stderr",
        "os.write(2, x)",
        "os.fdopen(1, 'w')",
        "open(2, 'w')",
        "open('/dev/tty', 'w')",
        "raise SystemExit(f'failed: {x}')",
        "sys.exit('failed')",
        "sys.exit(str(error))",
        "logging.basicConfig()",
    ],
)
def test_each_other_way_to_print_is_noticed(source: str) -> None:
    """In any module."""
    assert raw_output(source)


@pytest.mark.parametrize(
    "source", ["out.print(x)", "input = Console", "sys.exit(Code.FAILED)", "raise SystemExit(1)"]
)
def test_what_prints_nothing_raw_is_not(source: str) -> None:
    """Otherwise the list above would be long, and nobody would read it."""
    assert raw_output(source) == []


def test_log_files_hold_no_control_characters() -> None:
    """Reading them with `cat` is safe too."""
    line = wrap("part", HOSTILE.replace("\n", "").encode()).decode()
    assert [letter for letter in line if not is_visible(letter)] == []


def test_json_says_the_same() -> None:
    """An escape in JSON does not change the text."""
    data = msgspec.json.encode({HOSTILE: [HOSTILE]}).decode()
    assert msgspec.json.decode(printable_json(data)) == {HOSTILE: [HOSTILE]}


@pytest.mark.parametrize("text", ["vcha-2 löst aus → «ok» … 日本 😀", "a\\b", ""])
def test_text_that_is_seen_stays(text: str) -> None:
    """Names of people and places are shown as they are written."""
    assert printable(text) == text
