"""Patroni is changed only where it is as it was when the change was written.

Problem: a change replaces a function of Patroni. Another Patroni may do something else there, and
would lose it without a word. Rule: *each change names what it replaces (``REPLACES``), with a hash
of the source that it was written for. What differs is refused before anything is changed.*
"""

import hashlib
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from functools import reduce
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

DIGITS = 16

Pins = Mapping[str, str]
"""Hashes by target, as in ``patroni.ha:Ha.demote``."""


class OtherPatroniError(Exception):
    """This Patroni is none that openvcha was made for."""


def check(changes: Iterable[ModuleType]) -> None:
    """Raise OtherPatroniError unless each change finds what it replaces as it was."""
    differ = [target for change in changes for target in differing(change.REPLACES)]
    if differ:
        text = (
            f"Patroni {version('patroni')} is not supported: openvcha patches functions"
            f" that differ in this version ({', '.join(differ)}); install the version in"
            " locks/runtime.txt"
        )
        raise OtherPatroniError(text)


def differing(pins: Pins) -> list[str]:
    """Return the targets that are missing or not as they were."""
    return [target for target, known in pins.items() if fingerprint(target) != known]


def fingerprint(target: str) -> str | None:
    """Return the hash of a function's source, or of a value; None where there is none to read."""
    module, _, path = target.partition(":")
    try:
        found: Any = reduce(getattr, path.split("."), import_module(module))
        text = textwrap.dedent(inspect.getsource(found)) if callable(found) else repr(found)
    except (ImportError, AttributeError, OSError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
