"""Texts that are made of the table of settings: the commented file, and a page of docs/.

Run as a program, it makes the tables of the page that its argument names.
"""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from openvcha.node.settings.table import SECTIONS, SETTINGS, Setting, Value, Values, defaults

WIDTH = 98
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"
"""The lines of docs/settings.md between which the tables are made."""


def commented_file(values: Values | None = None) -> str:
    """Return a file of settings with an explanation of each.

    Settings that have their default are commented out, so that a later default takes effect.
    """
    shown = {**defaults(), **(values or {})}
    head = _comment(
        "Settings of openvcha on this machine, read by `vcha init`. A line that begins with `#`"
        " shows a default. `vcha config check` checks the file. It contains no secrets."
    )
    parts = ["\n".join(head)]
    for section, text in SECTIONS.items():
        lines = [*_comment(text), f"[{section}]"]
        for setting in _of(section):
            lines += ["", *_comment(setting.text), *_comment(_bounds(setting))]
            value = shown[setting.key]
            line = f"{setting.name} = {as_toml(value)}"
            lines.append(f"#{line}" if value == setting.default else line)
        parts.append("\n".join(lines))
    return "\n\n\n".join(parts) + "\n"


def as_toml(value: Value) -> str:
    """Return a value as TOML."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)


def tables() -> str:
    """Return the tables of docs/settings.md, one for each section, as Markdown."""
    return "\n\n".join(_table(section, text) for section, text in SECTIONS.items())


def with_tables(page: str) -> str:
    """Return a page whose part between BEGIN and END is made anew. Raises ValueError."""
    head, begin, rest = page.partition(f"{BEGIN}\n")
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{tables()}\n\n{END}{tail}"


def _table(section: str, text: str) -> str:
    rows = [
        f"| `{each.name}` | {_default(each)} | {each.allowed.replace('|', '/')} | {each.text} |"
        for each in _of(section)
    ]
    head = ["| Setting | Default | Allowed | What it is |", "|---|---|---|---|"]
    return "\n".join([f"### `[{section}]`", "", text, "", *head, *rows])


def _default(setting: Setting) -> str:
    return f"`{setting.default}`" if setting.default != "" else "empty"


def _bounds(setting: Setting) -> str:
    empty = ", or empty" if setting.default == "" else ""
    return f"Allowed: {setting.allowed}{empty}."


def _of(section: str) -> Iterator[Setting]:
    return (setting for setting in SETTINGS.values() if setting.section == section)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    made = Path(sys.argv[1])
    made.write_text(with_tables(made.read_text()))
