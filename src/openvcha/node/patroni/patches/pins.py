"""Patches apply only to the sources of Patroni for which they were written.

A patch replaces a function of Patroni. In another version that function may do something else,
which the patch would silently discard. So each patch names what it replaces (``REPLACES``), with a
hash of the source that it was written for; on any difference nothing is patched.
"""

import contextlib
import hashlib
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

DIGITS = 16

Pins = Mapping[str, str]
"""Hashes by target, such as ``patroni.ha:Ha.demote``."""


class UnsupportedPatroniError(Exception):
    """openvcha was not written for this version of Patroni."""


def check(changes: Iterable[ModuleType]) -> None:
    """Raise UnsupportedPatroniError unless everything that the patches replace is unchanged."""
    differ = [target for change in changes for target in changed_targets(change.REPLACES)]
    if differ:
        text = (
            f"Patroni {version('patroni')} is not supported: openvcha patches functions"
            f" that differ in this version ({', '.join(differ)}); install the version in"
            " locks/runtime.txt"
        )
        raise UnsupportedPatroniError(text)


def changed_targets(pins: Pins) -> list[str]:
    """Return the targets that are missing or have changed."""
    return [target for target, known in pins.items() if fingerprint(target) != known]


def fingerprint(target: str) -> str | None:
    """Return the hash of a function's source, or of a value; None if it cannot be read.

    The source of a decorated function is that of the decorator's function and of those in its
    closure, the decorated one among them.
    """
    module, _, path = target.partition(":")
    try:
        found: Any = reduce(getattr, path.split("."), import_module(module))
        text = "\0".join(_sources(found, set())) if callable(found) else repr(found)
    except (ImportError, AttributeError, OSError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _sources(found: Any, seen: set[Any]) -> Iterator[str]:
    """Yield the source of a function or class, and of all functions that it holds."""
    seen.add(found)
    # Of the code: given the function, ``inspect`` shows the one that ``functools.wraps`` names.
    yield textwrap.dedent(inspect.getsource(getattr(found, "__code__", found)))
    for held in _closure(found):
        if inspect.isfunction(held) and held not in seen:
            yield from _sources(held, seen)


def _closure(found: Any) -> Iterator[Any]:
    for cell in getattr(found, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # the cell is empty
            yield cell.cell_contents
