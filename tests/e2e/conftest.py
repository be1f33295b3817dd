"""A real lab for the whole module: three nodes, created with the commands that a person uses.

Adjacent modules that name the same `SHARED_LAB` use one lab, one after the other. Each begins
HEALTHY and ENABLED, but with what the others left behind: events, names, other nodes.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import httpx2
import pytest
from tests.support.lab.running_lab import RunningLab, lab_up
from tests.support.lab.writer import Writer

SHARED_LAB = "SHARED_LAB"
NODES = 3


class Labs:
    """The running lab; when a module leaves it broken, the next one gets a new lab."""

    def __init__(self, make_directory: Callable[[], Path]) -> None:
        self._make_directory = make_directory
        self._up = ExitStack()
        self._lab: RunningLab | None = None

    def lab(self, module: str) -> RunningLab:
        """Return the running lab if it is HEALTHY, or a new one."""
        if self._lab is not None and not self._fit(self._lab, module):
            self.reset()
        if self._lab is None:
            self._lab = self._up.enter_context(lab_up(self._make_directory()))
        return self._lab

    def reset(self) -> None:
        """End the running lab, if any."""
        self._lab = None
        self._up.close()

    def _fit(self, lab: RunningLab, module: str) -> bool:
        try:
            lab.repair(f"for-{module}")
        except (AssertionError, httpx2.TransportError):
            return False
        return True


@pytest.fixture(scope="session")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """Yield the labs of this session, one at a time."""
    labs = Labs(lambda: tmp_path_factory.mktemp("labs"))
    yield labs
    labs.reset()


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, labs: Labs) -> Iterator[RunningLab]:
    """Return a HEALTHY lab, for this module and for the next one if they share it."""
    module = request.module
    yield labs.lab(module.__name__.rpartition("test_")[2].replace("_", "-"))
    shared = getattr(module, SHARED_LAB, None)
    if shared is None or shared != getattr(_next_module(request), SHARED_LAB, None):
        labs.reset()


def _next_module(request: pytest.FixtureRequest) -> ModuleType | None:
    modules = [item.module for item in request.session.items if isinstance(item, pytest.Function)]
    own = [at for at, module in enumerate(modules) if module is request.module]
    return modules[own[-1] + 1] if own[-1] + 1 < len(modules) else None


@pytest.fixture
def degraded(running: RunningLab) -> RunningLab:
    """Return a cluster that has lost its passive."""
    if len(running.vms()) == NODES:
        running.lose_passive()
    return running


@pytest.fixture
def writer(running: RunningLab) -> Iterator[Writer]:
    """Yield a writer that uses the public address all the time; check its rows at the end."""
    passwords = json.loads(running.lab.passwords_file.read_text())
    with Writer(running.lab.state().public_address, passwords["app"], running.lab.ca) as writer:
        yield writer
