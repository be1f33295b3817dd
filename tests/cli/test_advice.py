"""Every command that our texts advise exists, with its options."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from openvcha.cli.main import app

ROOT = Path(__file__).parents[2]
ADVICE = re.compile(r"`vcha ([^`\n]+)`")
TYPED = re.compile(r"\btyped\(\w+, f?\"([^\"]+)\"\)")
"""What `openvcha.lab.folders.shell_command` makes a command of, with the options of the lab."""
BLOCK = re.compile(r"^(?:\./dev )?vcha (.+?)(?:\s+#.*)?$", re.MULTILINE)


def advised() -> Iterator[tuple[str, str]]:
    """Yield each command with the file that has it; placeholders are words."""
    for path in sorted((*ROOT.glob("src/**/*.py"), *ROOT.glob("docs/*.md"), ROOT / "README.md")):
        # Adjacent strings are one.
        text = re.sub(r'"\s*\n\s*f?"', "", path.read_text())
        found = {
            *ADVICE.findall(text),
            *TYPED.findall(text),
            *(BLOCK.findall(text) if path.suffix == ".md" else ()),
        }
        for words in sorted(found):
            # An option's quoted value ends it: what precedes it is checked.
            plain = re.split(r"[\"']", re.sub(r"(?<=\S)\{[^}]*\}", "", words))[0]
            if plain:
                yield path.name, re.sub(r"\{[^}]*\}|%s", "X", plain)


def wrong(words: str) -> str | None:
    """Return the part of a command that does not exist; None if all of it does."""
    command = typer.main.get_command(app)
    context = typer.Context(command)
    for word in shlex.split(words.replace("…", ""), comments=True):
        if word.startswith("-"):
            options = {
                name for each in command.params for name in (*each.opts, *each.secondary_opts)
            }
            if word.partition("=")[0] not in options | {"--help", "-h"}:
                return f"{command.name} has no option {word}"
        elif hasattr(command, "get_command"):
            below = command.get_command(context, word)
            if below is None:
                return None if word.isupper() or "|" in word else f"there is no command {word}"
            command = below
    return None


@pytest.mark.parametrize(("where", "words"), sorted(set(advised())))
def test_what_is_advised_can_be_typed(where: str, words: str) -> None:
    """In messages, errors, help and the documentation."""
    assert wrong(words) is None, where


@pytest.mark.parametrize("words", ["user erase x", "lab up --nonsense", "nothing"])
def test_what_cannot_be_typed_is_found(words: str) -> None:
    """The test above can fail."""
    assert wrong(words)


def test_there_is_much_advice() -> None:
    """The search really finds it in the texts."""
    assert len(set(advised())) > 50


DESCRIBES = {"typer.Option", "typer.Argument", "typer.Typer", "_placement"}


def unnamed(path: Path) -> Iterator[str]:
    """Yield each command that a module shows without the name of its lab.

    Descriptions (docstrings, help) are not shown when something goes wrong.
    """
    tree = ast.parse(path.read_text())
    described = [
        argument
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in DESCRIBES
        for argument in (*node.args, *(keyword.value for keyword in node.keywords))
    ]
    described += [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    passed = {id(inner) for node in described for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr | ast.Constant) or id(node) in passed:
            continue
        for words in ADVICE.findall(ast.unparse(node)):
            passed |= {id(inner) for inner in ast.walk(node)}
            if takes_a_lab(words) and "{where}" not in words:
                yield words


def takes_a_lab(words: str) -> bool:
    """Return whether a command takes the name of a lab."""
    return wrong(f"{words.partition('{')[0]} --name X") is None


MODULES = [
    path for room in ("lab", "cli") for path in sorted(ROOT.glob(f"src/openvcha/{room}/**/*.py"))
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_is_advised_is_for_the_same_lab(path: Path) -> None:
    """Without a name it would mean the lab ``default``, and might delete that one."""
    assert list(unnamed(path)) == []


def test_advice_for_no_lab_is_found(tmp_path: Path) -> None:
    """The test above can fail."""
    module = tmp_path / "module.py"
    module.write_text(
        '"""`vcha lab up`."""\n'
        'typer.Option(help="`vcha lab list`")\n'
        'raise Failed(f"{x}: `vcha lab reset`" f" or {typed(lab, x)}, `vcha user list{where}`")\n'
        'raise Failed("it is `vcha node run` or `vcha user add NAME`")\n'
    )
    assert list(unnamed(module)) == ["lab reset", "user add NAME"]
