"""The commands as a whole: names, help, exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from openvcha.api.operations import OPERATIONS
from openvcha.cli.direct import is_direct
from openvcha.cli.main import COMMANDS, app
from openvcha.cli.node.commands import COMMANDS as NODE_COMMANDS
from openvcha.cli.operation_help import short_name
from openvcha.cli.options import PROGRAM
from openvcha.lab.folders import VARIABLE
from openvcha.lab.state import Lab, LabState

LAB = "lab"


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    """Run vcha in this process; return exit code, output and errors."""
    done = CliRunner().invoke(app, list(arguments), prog_name="vcha", input=stdin)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(autouse=True)
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder for labs, whatever there is on this machine."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.delenv(PROGRAM, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def _commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*words, name), command
        if hasattr(command, "list_commands"):
            yield from _commands(command, (*words, name))


ALL = dict(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    """Including those generated from the table of operations."""
    code, out, err = run(*words, "--help")
    assert code == 0, err
    assert "Usage: vcha" in out
    assert "Exit codes:" in out or words[0] in {
        "call",
        "doctor",
        "node",
        "openapi",
        "demo",
        "undeploy",
    }


def test_no_password_is_taken_from_the_command_line() -> None:
    """Others on the machine can read it: no option or argument takes one."""
    taken = [
        (words, parameter.name)
        for words, command in ALL.items()
        for parameter in command.params
        if parameter.name and ("password" in parameter.name or "secret" in parameter.name)
    ]
    assert taken
    assert {name for _, name in taken} == {"password_file"}


@pytest.mark.parametrize(
    "words",
    [
        ("lab", "status"),
        ("lab", "logs", "active"),
        ("lab", "kill", "passive"),
        ("lab", "destroy", "passive"),
        ("lab", "down"),
        ("mode", "show"),
        ("mode", "set", "maintenance"),
        ("lab", "reset", "--yes"),
        ("task", "list"),
        ("events",),
        ("audit",),
        ("call", "cluster.get"),
        ("user", "list"),
        ("failover",),
        ("failover", "--forced"),
        ("passive", "redeploy"),
        ("witness", "redeploy"),
        ("witness", "check"),
        ("undeploy", "--yes"),
    ],
    ids=" ".join,
)
def test_without_a_lab_every_command_says_how_to_make_one(words: tuple[str, ...]) -> None:
    """And exits with the code for it."""
    code, out, err = run(*words)
    assert code == 3
    assert not out
    assert "there is no lab 'default'" in err
    assert "`vcha lab up` creates one" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("stat",), "No such command 'stat'"),
        (("lab", "statsu"), "Did you mean 'status'"),
        (("lab", "kill", "all"), "'all' is not one of 'active', 'passive', 'witness'"),
        (("lab", "destroy", "active"), "the active cannot be destroyed"),
        (("user", "add", "bob", "--role", "King"), "'King' is not one of"),
        (("mode", "set", "off"), "'off' is not one of"),
        (("call", "nonsense"), "No such command 'nonsense'"),
        (("call", "redeploy"), "is ambiguous: cluster.passive.redeploy"),
        (("call", "cluster.mode.get", "--follow"), "No such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_told_with_what_would_be_right(words: tuple[str, ...], told: str) -> None:
    """With exit code 2."""
    code, _, err = run(*words)
    assert code == 2
    assert told in " ".join(err.replace("│", " ").split())


def test_the_list_of_operations_is_the_table() -> None:
    """All of them, with their privileges and effects."""
    code, out, _ = run("call", "--list")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [short_name(op) for op in OPERATIONS]
    assert "Global.VCServer" in next(line for line in lines if "passive.redeploy" in line)


def test_help_of_an_operation_tells_parameters_privilege_and_errors() -> None:
    """All from the table."""
    _, out, _ = run("call", "passive.redeploy", "--help")
    for text in (
        "POST /vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true",
        "*  placement.folder",
        "STANDARD_PORTGROUP | DISTRIBUTED_PORTGROUP",
        "Privilege   Global.VCServer",
        "202, the id of a task",
        "UNVERIFIED_PEER (400)",
    ):
        assert text in out


def test_the_description_of_the_api_is_printed() -> None:
    """As JSON, for other programs."""
    code, out, _ = run("openapi")
    assert code == 0
    assert json.loads(out)["openapi"] == "3.0.3"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--server", "http://h:1", "--user", "u"], "write https://HOST:PORT"),
        (["--server", "https://h/path", "--user", "u"], "write https://HOST:PORT"),
        (["--server", "https://h"], "--server needs --user"),
        (["--server", "https://h", "--user", "u", "--ca", "f", "--thumbprint", "t"], "not both"),
        (["--server", "https://h", "--user", "u", "--ca", "/nowhere"], "/nowhere cannot be used"),
        (["--server", "https://h", "--user", "u", "--thumbprint", "AB"], "64 hexadecimal digits"),
        (["--ca", "f"], "need --server"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_server_that_cannot_be_meant_is_told(options: list[str], told: str) -> None:
    """Before any password is sent."""
    code, _, err = run("call", "cluster.get", *options, stdin="geheim\n")
    assert code == 1
    assert told in err
    assert "geheim" not in err


def test_a_lab_that_is_down_is_told_by_words_and_code(labs: Path) -> None:
    """As JSON and in the list, too."""
    Lab(labs / LAB).make(LabState(name=LAB, octet=199, cluster_id="c"))
    code, out, _ = run("lab", "status", "--name", LAB)
    assert code == 3
    assert f"Lab {LAB} is DOWN" in out
    assert f"vcha lab up --name {LAB}" in out
    code, out, _ = run("lab", "status", "--name", LAB, "--json")
    assert code == 3
    assert json.loads(out)["state"] == "DOWN"
    _, out, _ = run("lab", "list")
    assert out.splitlines()[1].split()[:2] == [LAB, "down"]


def test_no_labs_is_not_an_error() -> None:
    """The output says what to do."""
    assert run("lab", "list")[0] == 0
    assert run("lab", "list", "--json")[1] == "[]\n"


def test_a_supervisor_loads_nothing_of_the_api_or_the_terminal_interface() -> None:
    """Three nodes start at once on a small machine: imports determine the wait."""
    heavy = ["uvicorn", "starlette", "openvcha.daemon.compose", "openvcha.lab.demo"]
    program = f"""
import sys
from typer.testing import CliRunner
from openvcha.cli.main import COMMANDS, app
from openvcha.cli.node.commands import COMMANDS as NODE_COMMANDS
assert CliRunner().invoke(app, ["node", "status", "/"]).exit_code == 3
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout == "[]\n"


def test_the_list_of_commands_says_what_each_says_itself() -> None:
    """The texts are in the list itself, so that no command is loaded to show them."""
    tables = {**COMMANDS, **{f"node {name}": load for name, load in NODE_COMMANDS.items()}}
    said = {words: load.help for words, load in tables.items()}
    assert said == {words: ALL[tuple(words.split())].help.split("\n")[0] for words in tables}
    assert {words for words, load in tables.items() if load.hidden} == {
        "node service",
        "node api",
        "node address",
    }


@pytest.mark.parametrize("words", [(), ("node",)])
def test_the_list_of_commands_loads_none(words: tuple[str, ...]) -> None:
    """The first command that a person types must not import everything."""
    code = (
        "import sys; from openvcha.cli.main import app\n"
        f"try: app([*{words!r}, '--help'])\n"
        "finally: print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    *shown, loaded = done.stdout.rstrip().split("\n")
    assert "store" in "".join(shown) if words else "openapi" in "".join(shown)
    heavy = {
        "openvcha.cli.lab.commands",
        "openvcha.cli.node.recovery",
        "asyncssh",
        "cryptography",
        "psycopg",
        "starlette",
    }
    assert not heavy & set(loaded.split())


@pytest.mark.parametrize(
    ("arguments", "plain"),
    [
        (("node", "run", "{here}"), True),
        (("node", "bootstrap", "{here}"), True),
        (("node", "bootstrap", "--help"), False),
        (("node", "run", "{here}", "--no-service"), False),
        (("node", "run", "--help"), False),
        (("node", "run", "{here}/nothing"), False),
        (("node", "service", "{here}"), False),
        (("node", "run"), False),
        ((), False),
    ],
)
def test_only_the_plain_way_to_run_a_node_goes_around_the_command_line(
    arguments: tuple[str, ...], plain: bool, tmp_path: Path
) -> None:
    """A person's typing error is reported by the full argument parser."""
    assert is_direct([word.format(here=tmp_path) for word in arguments]) is plain


@pytest.mark.parametrize(
    ("verb", "said"), [("run", "cannot run the node"), ("bootstrap", "it has no boot.json")]
)
def test_a_node_that_cannot_be_run_says_so_by_both_ways(
    verb: str, said: str, tmp_path: Path
) -> None:
    """A program that starts nodes reads the same line, and gets the same exit code."""
    words = ("node", verb, str(tmp_path))
    code, _, err = run(*words)
    plain = subprocess.run(
        [sys.executable, "-m", "openvcha", *words], capture_output=True, text=True, check=False
    )
    assert (plain.returncode, plain.stderr) == (code, err)
    assert (code, said in err) == (1, True)


def test_a_lab_that_cannot_be_read_is_one_row_of_the_list(labs: Path) -> None:
    """It neither hides the others nor blocks, whatever kind of file another account put there."""
    Lab(labs / "good").make(LabState(name="good", octet=83, cluster_id="c"))
    for name in ("broken", "fifo", "folder"):
        (labs / name).mkdir()
    (labs / "broken" / "lab.json").write_text("{")
    os.mkfifo(labs / "fifo" / "lab.json")
    (labs / "folder" / "lab.json").mkdir()
    code, out, err = run("lab", "list", "--json")
    assert (code, err) == (0, "")
    rows = {row["name"]: row for row in json.loads(out)}
    assert (rows["good"]["api"], rows["good"]["error"]) == ("https://127.83.1.10:8443", None)
    assert "truncated" in rows["broken"]["error"]
    assert "not a regular file" in rows["fifo"]["error"]
    assert "directory" in rows["folder"]["error"]
    code, out, err = run("lab", "list")
    assert (code, err) == (0, "")
    assert {line.split()[0] for line in out.splitlines()} >= rows.keys()


def test_the_list_of_labs_does_not_block_at_an_inventory(labs: Path) -> None:
    """Another account may replace any file of its lab, and root lists them all."""
    lab = Lab(labs / "x")
    lab.make(LabState(name="x", octet=83, cluster_id="c"))
    lab.infrastructure.mkdir()
    os.mkfifo(lab.infrastructure / "inventory.json")
    code, out, err = run("lab", "list", "--json")
    assert (code, err, len(json.loads(out))) == (0, "", 1)
