"""Every patch of Patroni is loaded: a forgotten one would protect nothing, unnoticed."""

import functools
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest

import openvcha.node.patroni.patches
from openvcha.node.patroni.launcher import PATCHES
from openvcha.node.patroni.patches import pins
from openvcha.node.patroni.patches.pins import changed_targets, fingerprint


def test_every_extension_that_there_is_is_installed() -> None:
    """None of them twice."""
    (folder,) = map(Path, openvcha.node.patroni.patches.__path__)
    there = {
        f"openvcha.node.patroni.patches.{path.stem}"
        for path in folder.glob("*.py")
        if "\ndef install()" in path.read_text()
    }
    assert set(PATCHES) == there
    assert len(PATCHES) == len(there) > 5


def test_each_change_names_all_that_it_replaces_and_nothing_else() -> None:
    """As Patroni's own modules and classes show it, before and after."""
    done = run_with_patroni("print(*differences(), sep='\\n')")
    changed = {target for target in done.split() if target not in NOT_REPLACED}
    pinned = [target for name in PATCHES for target in import_module(name).REPLACES]
    inherited = {"patroni.dcs:AbstractDCS.delete_leader": "patroni.dcs.etcd3:Etcd3.delete_leader"}
    assert {inherited.get(target, target) for target in pinned} == changed
    assert len(set(pinned)) == len(pinned)


def test_a_patroni_that_differs_is_refused_before_anything_is_changed() -> None:
    """The message names the function, and what to do."""
    done = run_with_patroni(
        """
        ha.Ha.demote = lambda self: None
        before = snapshot()
        try:
            launcher.main()
        except SystemExit as error:
            print(error)
        assert snapshot() == before
        """
    )
    assert "(patroni.ha:Ha.demote)" in done
    assert "locks/runtime.txt" in done


def test_what_is_missing_differs() -> None:
    """A function, and a whole module."""
    missing = {"patroni.ha:Ha.no_such": "0", "patroni.no_such:Ha": "0"}
    assert changed_targets(missing) == list(missing)


def test_no_two_pins_are_equal() -> None:
    """Regression: two functions had the hash of the decorator that they share."""
    known = [pin for name in PATCHES for pin in import_module(name).REPLACES.values()]
    assert len(set(known)) == len(known)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_function_that_differs_below_its_decorators_is_refused(depth: int) -> None:
    """Patroni's decorators return a function of theirs, which calls the decorated one."""
    done = run_with_patroni(
        f"""
        import patroni.dcs.etcd3 as etcd3

        def renewed(self, data):
            return True

        for _ in range({depth}):
            renewed = etcd3.catch_etcd_errors(renewed)
        etcd3.Etcd3.touch_member = renewed
        try:
            launcher.main()
        except SystemExit as error:
            print(error)
        """
    )
    assert "(patroni.dcs.etcd3:Etcd3.touch_member)" in done


def decorated(*, kept: bool = True, inner: bool = True) -> Callable[[], None]:
    """Return a function below a decorator that uses `functools.wraps`; either may differ."""

    def work() -> None: ...
    def other_work() -> None: ...

    chosen = work if inner else other_work

    @functools.wraps(chosen)
    def wrapper() -> None:
        chosen()

    @functools.wraps(chosen)
    def other_wrapper() -> None:
        chosen()
        chosen()

    return wrapper if kept else other_wrapper


def test_both_the_decorator_and_the_function_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the decorator passes for the function that it decorates."""
    found = set()
    for kept, inner in product((True, False), repeat=2):
        monkeypatch.setattr(pins, "digits", decorated(kept=kept, inner=inner), raising=False)
        found.add(fingerprint(f"{pins.__name__}:digits"))
    assert None not in found
    assert len(found) == 4


NOT_REPLACED = {"patroni.ha:time"}
"""Our clock in the place of the module `time`, for one wait of a function that is pinned."""

LOADED = """
import importlib, inspect, sys
sys.argv = ["launcher", "/nowhere/patroni.yml"]
from openvcha.node.patroni import launcher
for name in launcher.PRELOADED_MODULES:
    importlib.import_module(name)
import patroni.ha as ha
changes = [importlib.import_module(name) for name in launcher.PATCHES]

def snapshot():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "patroni":
            continue
        for key, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == name:
                for attribute, what in vars(value).items():
                    found[f"{name}:{value.__qualname__}.{attribute}"] = what
            elif not key.startswith("__"):
                found[f"{name}:{key}"] = value
    return found

def differences():
    before = snapshot()
    for change in changes:
        change.install()
    return [key for key, value in snapshot().items() if before.get(key) is not value]
"""


def run_with_patroni(script: str) -> str:
    """Return what a script prints in its own process, whose Patroni it may change."""
    whole = LOADED + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
