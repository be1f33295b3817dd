"""Output in color on a terminal, and as plain lines elsewhere.

Foreign text is displayed, never interpreted: it stays inside its line or table cell.
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

from openvcha.api.foreign_text import printable
from openvcha.client.narrator import Narrator

PLAIN_WIDTH = 200
BAR_WIDTH = 28
PLAIN_STEP = 10
Clock = Callable[[], float]


class Screen(Console):
    """A console that prints each text as one line without control characters."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print lines, tables and so on."""
        super().print(*(self._line(each) for each in objects), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render; the contents of tables and other renderables pass through here as well."""
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
    """Return the console for results; outside a terminal, it truncates nothing."""
    wide = None if sys.stdout.isatty() else PLAIN_WIDTH
    # No markup: to rich, ":CD:" in a thumbprint is an emoji and "[x]" in a name is a style.
    return Screen(highlight=False, emoji=False, markup=False, width=wide)


def narrator(clock: Clock = time.monotonic) -> Narrator:
    """Return the narrator for a terminal, or for plain output."""
    out = console()
    return TerminalNarrator(out, clock) if out.is_terminal else PlainNarrator(out, clock)


def simple_table(*columns: str) -> Rows:
    """Return a table without lines, as printed by most commands."""
    table = Rows(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def local_time(text: str) -> str:
    """Return a time of the API in local time; other texts unchanged."""
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
    """A narrator with a spinner for steps, a bar for tasks, and a line for each finished step."""

    def __init__(self, out: Console, clock: Clock) -> None:
        self._out = out
        self._clock = clock
        self._running: _Running | None = None

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show a step while it runs, then how long it took."""
        running = self._running = _Running(text, self._clock)
        mark, style = "left", "yellow"  # interrupted by Ctrl-C
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
        """Update the bar."""
        if self._running:
            self._running.info = info

    def say(self, text: str = "") -> None:
        """Print a paragraph."""
        self._out.print(text)

    def code(self, text: str) -> None:
        """Print a command for copying."""
        self._out.print(Text(text, style="cyan"), soft_wrap=True)


class _Running:
    """A running step, redrawn several times a second."""

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
    """A narrator with a line for each step and each change of a task, and the elapsed seconds."""

    def __init__(self, out: Console, clock: Clock) -> None:
        self._out = out
        self._clock = clock
        self._began = clock()
        self._shown = ("", 0)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print a step when it starts; the next line shows its end."""
        self._line(text)
        yield

    def task(self, info: Mapping[str, Any]) -> None:
        """Print a task's progress if its message changes, or after each PLAIN_STEP percent."""
        completed, total, message = progress_of(info)
        percent = 100 * completed // total
        words, last = self._shown
        # Numbers in a message change constantly: compare the rest.
        kind = "".join(letter for letter in message if letter.isalpha())
        if kind != words or percent >= last + PLAIN_STEP:
            self._shown = (kind, percent)
            self._line(f"  {percent:3} %  {message}")

    def say(self, text: str = "") -> None:
        """Print a paragraph unchanged."""
        self._out.print(text, soft_wrap=True)

    def code(self, text: str) -> None:
        """Print a command."""
        self._out.print(text, soft_wrap=True)

    def _line(self, text: str) -> None:
        since = self._clock() - self._began
        self._out.print(f"[{since:6.1f} s] {text}", soft_wrap=True)
