"""Output without a terminal."""

import contextlib
import io
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from openvcha.cli.output.console import (
    PlainNarrator,
    TerminalNarrator,
    console,
    narrator,
    simple_table,
)


def _info(completed: int, text: str) -> dict[str, Any]:
    message = {"default_message": text}
    return {"progress": {"completed": completed, "total": 100, "message": message}}


def test_plain_output_is_a_line_for_each_thing_that_is_new() -> None:
    """With the seconds since the start; numbers alone are not news below 10 %."""
    out = io.StringIO()
    times = iter(range(100))
    plain = PlainNarrator(Console(file=out, width=200, markup=False), lambda: next(times))
    with plain.step("Doing [it]"):
        plain.task(_info(1, "copying 1 MB"))
        plain.task(_info(2, "copying 2 MB"))
        plain.task(_info(11, "copying 9 MB"))
        plain.task(_info(11, "joining"))
    plain.say("[bold]done[/bold]")
    assert out.getvalue().splitlines() == [
        "[   1.0 s] Doing [it]",
        "[   2.0 s]     1 %  copying 1 MB",
        "[   3.0 s]    11 %  copying 9 MB",
        "[   4.0 s]    11 %  joining",
        "[bold]done[/bold]",
    ]


def test_without_a_terminal_there_are_neither_colours_nor_cut_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Programs read what is piped into a file or another program."""
    assert isinstance(narrator(), PlainNarrator)
    narrator().code("x" * 300)
    console().print(Text("red", style="red"))
    assert capsys.readouterr().out == "x" * 300 + "\nred\n"


@pytest.mark.parametrize("text", ["13:AA:CD:E2:AB:00:VS:ID", "a [bold]name[/bold]"])
def test_text_is_printed_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For rich, parts of a thumbprint are emoji, and names in brackets styles."""
    table = simple_table("text")
    table.add_row(text)
    console().print(text)
    console().print(table)
    narrator().say(text)
    assert capsys.readouterr().out.count(text) == 3


@pytest.mark.parametrize(
    ("error", "mark"), [(None, "ok"), (ValueError(), "failed"), (KeyboardInterrupt(), "left")]
)
def test_on_a_terminal_each_step_leaves_a_line(error: BaseException | None, mark: str) -> None:
    """With its outcome and duration; the progress bar is gone."""
    out = io.StringIO()
    times = iter(range(1000))
    terminal = Console(file=out, width=80, force_terminal=True, color_system=None)
    shown = TerminalNarrator(terminal, lambda: next(times))
    with contextlib.suppress(ValueError, KeyboardInterrupt), shown.step("Working"):
        shown.task(_info(50, "half"))
        if error:
            raise error
    last = out.getvalue().splitlines()[-1]
    assert mark in last
    assert "Working" in last
    assert last.rstrip().endswith(" s")
