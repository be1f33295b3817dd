"""Reading settings from a TOML file, and from a command line over it."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openvcha.node.settings.check import checked, from_words
from openvcha.node.settings.findings import Finding, quoted
from openvcha.node.settings.rules import contradictions
from openvcha.node.settings.table import SECTIONS, SETTINGS, Value, defaults
from openvcha.system.files.regular_files import read_regular

DEFAULT_FILE = Path("/etc/openvcha/openvcha.toml")
LARGEST_FILE = 1 << 20
COMMAND_LINE = "the command line"
_SECTION = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]")
_KEY = re.compile(r"""\s*["']?([A-Za-z0-9_.-]+)["']?\s*=""")


class Unreadable(Exception):  # noqa: N818 - named after the condition
    """A file of settings cannot be read at all; the text says why."""


@dataclass(frozen=True)
class Reading:
    """The value of each setting, the source of those that are not defaults, and all errors."""

    values: dict[str, Value]
    sources: dict[str, str]
    errors: tuple[str, ...] = ()


@dataclass
class _Draft:
    """What has been read so far."""

    values: dict[str, Value] = field(default_factory=defaults)
    sources: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def put(self, key: str, given: object, source: str, line: int = 0) -> None:
        """Take a value of a known setting, or note what is wrong with it."""
        found = checked(SETTINGS[key], given, line)
        if isinstance(found, Finding):
            self.errors.append(found.shown(source))
            return
        self.values[key], self.sources[key], self.lines[key] = found, source, line

    def refuse(self, key: str, text: str, advice: str, source: str, line: int = 0) -> None:
        """Note what is wrong with something that is not a setting."""
        self.errors.append(Finding(key, text, advice, line).shown(source))


def read_settings(path: Path | None, given: Mapping[str, str] | None = None) -> Reading:
    """Return the settings of a file (None: the defaults), overridden by a command line's.

    ``given`` has texts by key. All errors are found at once. Raises Unreadable.
    """
    draft = _Draft()
    if path is not None:
        _read_file(draft, path)
    for key, words in (given or {}).items():
        if key in SETTINGS:
            draft.put(key, from_words(SETTINGS[key], words), COMMAND_LINE)
        else:
            draft.refuse(quoted(key), "is not a setting", _nearest(key, SETTINGS), COMMAND_LINE)
    for found in contradictions(draft.values):
        line = draft.lines.get(found.key, 0)
        source = draft.sources.get(found.key) or str(path or COMMAND_LINE)
        draft.refuse(found.key, found.text, found.advice, source, line)
    return Reading(draft.values, draft.sources, tuple(draft.errors))


def _read_file(draft: _Draft, path: Path) -> None:
    text = _content(path)
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Unreadable(f"{path} is not valid TOML: {error}") from error
    lines = _lines(text)
    for section, table in tables.items():
        line = lines.get((section, ""), lines.get(("", section), 0))
        if section not in SECTIONS:
            draft.refuse(
                quoted(section), "is not a section", _nearest(section, SECTIONS), str(path), line
            )
        elif not isinstance(table, dict):
            advice = f"write [{section}] on a line of its own, and the settings below it"
            draft.refuse(section, f"is {quoted(table)}, not a section", advice, str(path), line)
        else:
            _read_section(draft, str(path), section, table, lines)


def _read_section(
    draft: _Draft,
    source: str,
    section: str,
    table: Mapping[str, object],
    lines: Mapping[tuple[str, str], int],
) -> None:
    known = [setting.name for setting in SETTINGS.values() if setting.section == section]
    for name, value in table.items():
        line = lines.get((section, name), 0)
        if name in known:
            draft.put(f"{section}.{name}", value, source, line)
        else:
            key = f"{section}.{quoted(name)}"
            draft.refuse(key, "is not a setting", _nearest(name, known), source, line)


def _content(path: Path) -> str:
    try:
        data = read_regular(path)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > LARGEST_FILE:
        raise Unreadable(f"{path} is larger than {LARGEST_FILE} bytes, too large for settings")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path} is not valid TOML: byte {error.start} is not UTF-8") from error


def _lines(text: str) -> dict[tuple[str, str], int]:
    """Return the line of each section and of each key in it, as far as they are simple.

    tomllib does not tell where a value is.
    """
    return dict(reversed(list(_places(text.splitlines()))))


def _places(lines: Iterable[str]) -> Iterator[tuple[tuple[str, str], int]]:
    section = ""
    for number, line in enumerate(lines, 1):
        if found := _SECTION.match(line):
            section = found[1]
            yield (section, ""), number
        elif found := _KEY.match(line):
            yield (section, found[1]), number


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name[:100], known, 1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
