"""What is printed in colour on a terminal, and as plain lines elsewhere.

Text of others is shown, never obeyed: it gets no further than its line or its cell of a table.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from openvcha.api.printable import printable
from openvcha.client.narrator import Narrator

PLAIN_WIDTH = 200
BAR_WIDTH = 28
PLAIN_STEP = 10
Clock = Callable[[], float]


class Screen(Console):
    """A console that shows what it gets: one line for each text, no control characters in it."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print lines, tables and so on."""
        super().print(*(self._line(each) for each in objects), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Lay out; what comes from inside of tables and the like passes here too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else _shown(segment)

    def _line(self, given: Any) -> Any:
        if isinstance(given, str):
            return printable(given)
        if isinstance(given, Text) and printable(given.plain) != given.plain:
            pieces = given.render(self)
            return Text.assemble(*((printable(text), style or "") for text, style, _ in pieces))
        return given


class Rows(Table):
    """A table whose cells are single lines."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row of texts."""
        super().add_row(*map(_cell, cells), **options)


def _cell(given: RenderableType | None) -> RenderableType | None:
    if isinstance(given, str):
        return printable(given)
    return Text(printable(given.plain), given.style) if isinstance(given, Text) else given


def _shown(segment: Segment) -> Segment:
    text = "\n".join(map(printable, segment.text.split("\n")))
    return segment if text == segment.text else Segment(text, segment.style)


def console() -> Screen:
    """Return the console for results; where no terminal is, nothing is cut off."""
    wide = None if sys.stdout.isatty() else PLAIN_WIDTH
    # Text is shown as it is: to rich, ":CD:" in a thumbprint is a disc, "[x]" in a name a colour.
    return Screen(highlight=False, emoji=False, markup=False, width=wide)


def narrator(clock: Clock = time.monotonic) -> Narrator:
    """Return the narrator that fits where the output goes."""
    out = console()
    return TerminalNarrator(out, clock) if out.is_terminal else PlainNarrator(out, clock)


def simple_table(*columns: str) -> Rows:
    """Make a table without lines, as most commands show."""
    table = Rows(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def local_time(text: str) -> str:
    """Write a time of the API as people here read it; what is no time, as it is."""
    try:
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return text


def progress_of(info: Mapping[str, Any]) -> tuple[int, int, str]:
    """Return completed, total and the message of a task's info."""
    progress = info.get("progress") or {}
    message = progress.get("message") or {}
    return (
        progress.get("completed", 0),
        progress.get("total", 0) or 1,
        message.get("default_message", ""),
    )


class TerminalNarrator:
    """Steps with a spinner, tasks with a bar, and a line for each step that is done."""

    def __init__(self, out: Console, clock: Clock) -> None:
        self._out = out
        self._clock = clock
        self._running: _Running | None = None

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that something is done, then how long it took."""
        running = self._running = _Running(text, self._clock)
        mark, style = "left", "yellow"  # by Ctrl-C
        try:
            with Live(running, console=self._out, transient=True):
                yield
            mark, style = "ok", "green"
        except Exception:
            mark, style = "failed", "bold red"
            raise
        finally:
            self._running = None
            line = Text.assemble((f"{mark:>6} ", style), text, (f"  {running.elapsed()}", "dim"))
            self._out.print(line, soft_wrap=True)

    def task(self, info: Mapping[str, Any]) -> None:
        """Move the bar."""
        if self._running:
            self._running.info = info

    def say(self, text: str = "") -> None:
        """Print a paragraph."""
        self._out.print(text)

    def code(self, text: str) -> None:
        """Print a command so that it can be copied."""
        self._out.print(Text(text, style="cyan"), soft_wrap=True)


class _Running:
    """A step that runs, drawn anew many times a second."""

    def __init__(self, text: str, clock: Clock) -> None:
        self._text = printable(text)
        self._clock = clock
        self._began = clock()
        self._spinner = Spinner("line")
        self.info: Mapping[str, Any] | None = None

    def elapsed(self) -> str:
        return f"{self._clock() - self._began:.1f} s"

    def __rich__(self) -> Group:
        head = Table.grid(padding=(0, 1, 0, 0))
        spinner = self._spinner.render(self._clock())
        head.add_row("    ", spinner, self._text, Text(self.elapsed(), style="dim"))
        return Group(head, *self._bar())

    def _bar(self) -> Iterator[Padding]:
        if self.info is None:
            return
        completed, total, message = progress_of(self.info)
        row = Table.grid(padding=(0, 2, 0, 0))
        bar = ProgressBar(total=total, completed=completed, width=BAR_WIDTH)
        row.add_row(
            bar, f"{100 * completed // total:3} %", Text(printable(message), overflow="ellipsis")
        )
        yield Padding(row, (0, 0, 0, 7))


class PlainNarrator:
    """A line for each step and each change of a task, with the seconds since the beginning."""

    def __init__(self, out: Console, clock: Clock) -> None:
        self._out = out
        self._clock = clock
        self._began = clock()
        self._shown = ("", 0)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print what is done; the next line tells of its end."""
        self._line(text)
        yield

    def task(self, info: Mapping[str, Any]) -> None:
        """Print it when the task does something else, or has come on a good deal."""
        completed, total, message = progress_of(info)
        percent = 100 * completed // total
        words, last = self._shown
        # Numbers in a message count up all the time: what is said is what counts.
        kind = "".join(letter for letter in message if letter.isalpha())
        if kind != words or percent >= last + PLAIN_STEP:
            self._shown = (kind, percent)
            self._line(f"  {percent:3} %  {message}")

    def say(self, text: str = "") -> None:
        """Print a paragraph as it is."""
        self._out.print(text, soft_wrap=True)

    def code(self, text: str) -> None:
        """Print a command."""
        self._out.print(text, soft_wrap=True)

    def _line(self, text: str) -> None:
        since = self._clock() - self._began
        self._out.print(f"[{since:6.1f} s] {text}", soft_wrap=True)
