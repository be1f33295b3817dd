"""Commands for a host's shell: an argument stays what it is, whatever it contains."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvcha.infrastructure.hosts.commands import (
    Outcome,
    UnusableArgument,
    last_words,
    quoted,
    script,
)

ATTACKS = [
    "$(id)",
    "`id`",
    "a b",
    "; id",
    "'",
    '"',
    "\n id",
    "\\",
    "*",
    "~",
    "-n",
    "",
    "é",
    "|& id",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_a_shell_passes_on_exactly_what_was_meant(text: str) -> None:
    """Twice: the account's shell splits the command, and the script gets its arguments."""
    command = script('printf %s "$1"', text)
    for shell in (["sh", "-c"], ["bash", "-c"]):
        done = subprocess.run([*shell, command], capture_output=True, check=True)
        assert done.stdout.decode() == text


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_nothing_of_an_argument_is_outside_quotes(arguments: list[str]) -> None:
    """Whatever a name or a path contains."""
    import shlex  # noqa: PLC0415 - only to split again

    assert shlex.split(quoted("x", *arguments)) == ["x", *arguments]


def test_what_no_program_can_get_is_refused() -> None:
    """A NUL byte ends an argument for the kernel."""
    with pytest.raises(UnusableArgument):
        quoted("rm", "a\0b")


def test_root_is_asked_for_without_a_password() -> None:
    """A prompt would never end."""
    assert script("true", root=True).startswith("sudo -n sh -c ")


def test_a_failure_has_words_even_if_the_command_had_none() -> None:
    """They are on one line, and few."""
    assert last_words(Outcome(3, "", "")) == "exit code 3, no output"
    assert last_words(Outcome(1, "out", "a\n b")) == "a b"
    assert len(last_words(Outcome(1, "x" * 9999, ""))) == 500
