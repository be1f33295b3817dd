"""No thread is the first to decode a structure: importing a module prepares all of its own."""

import ast
import importlib
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import msgspec
import pytest

import openvcha

# A separate process: here other tests have decoded structures already.
UNPREPARED = """
import gc, importlib, pkgutil, msgspec, openvcha

def all_below(kind):
    for found in kind.__subclasses__():
        yield found
        yield from all_below(found)

def ready(kind):  # what msgspec has found out about a structure is an object that this one holds
    return any(type(held).__name__ == "StructInfo" for held in gc.get_referents(kind))

class Fresh(msgspec.Struct):
    number: int

assert not ready(Fresh)
for module in pkgutil.walk_packages(openvcha.__path__, "openvcha."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
ours = {kind for kind in all_below(msgspec.Struct) if kind.__module__.startswith("openvcha.")}
assert len(ours) > 100
print(*sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in ours if not ready(kind)))
"""
ROUNDS = "300"
BUILT_IN = (
    object,
    str,
    int,
    float,
    bool,
    bytes,
    dict,
    list,
    tuple,
    NoneType,
    UnionType,
    Any,
    ...,
    msgspec.Raw,
)
#: Calls that pass on a type parameter; the type is checked where it is named.
PASSING_ON = {
    ("openvcha.infrastructure.hosts.orders", "type_"),
    ("openvcha.store.bounded_json", "type_"),
    ("openvcha.store.records", "type_"),
    ("openvcha.store.records", "self._type"),
    ("openvcha.events.ring", "self._type"),
    ("openvcha.daemon.unreadable_records", "type_"),
    ("openvcha.tasks.record", "known[self.data_type]"),
    ("openvcha.tasks.record", "result_type"),
}


def test_all_structures_are_ready_once_imported() -> None:
    """A module without ``prepare(__name__)`` at its end is named here."""
    done = subprocess.run(
        [sys.executable, "-c", UNPREPARED], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == []


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for module in pkgutil.walk_packages(openvcha.__path__, "openvcha."):
        spec = importlib.util.find_spec(module.name)
        assert spec
        assert spec.origin
        yield module.name, ast.parse(Path(spec.origin).read_text())


def _read_as(call: ast.Call) -> ast.expr | None:
    """Return the type that a call decodes a value as."""
    name = ast.unparse(call.func)
    if name.endswith(("json.decode", "json.Decoder", "msgspec.convert")):
        named = [word.value for word in call.keywords if word.arg == "type"]
        at = 0 if name.endswith("Decoder") else 1
        return next(iter([*named, *call.args[at : at + 1]]), None)
    if name in {"Record", "Records"}:
        return call.args[2]
    read = name in {"decode", "readable", "records.decode"} and len(call.args) > 1
    return call.args[1] if read else None


def _places() -> list[tuple[str, ast.expr]]:
    """Return every place outside ``openvcha.api`` that decodes a value as a type."""
    return [
        (module, found)
        for module, tree in _modules()
        if not module.startswith("openvcha.api.")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (found := _read_as(node)) is not None
    ]


def _safe(kind: Any) -> bool:
    """Return whether it is one of our structures, or a type for which msgspec caches nothing."""
    if get_origin(kind) is not None:
        return _safe(get_origin(kind)) and all(map(_safe, get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind.__module__.startswith("openvcha.")
    return kind in BUILT_IN


def test_nothing_is_read_as_a_type_that_is_not_ready() -> None:
    """Dataclasses, named tuples and bare enumerations are also prepared lazily by msgspec."""
    places = _places()
    assert len(places) > 30
    unsafe = [
        (module, ast.unparse(found))
        for module, found in places
        if (module, ast.unparse(found)) not in PASSING_ON
        and not _safe(eval(ast.unparse(found), vars(importlib.import_module(module))))
    ]
    assert unsafe == []


@pytest.mark.parametrize(
    ("words", "ends"), [((), 0), (("unprepared",), -signal.SIGSEGV)], ids=["ready", "unprepared"]
)
def test_threads_read_a_structure_at_the_same_moment(words: tuple[str, ...], ends: int) -> None:
    """Without the fix the process ends by SIGSEGV: this would detect a regression."""
    script = str(Path(__file__).parents[1] / "support" / "first_reads.py")
    command = [sys.executable, script, ROUNDS if not words else "20000", *words]
    assert subprocess.run(command, check=False, timeout=300).returncode == ends
