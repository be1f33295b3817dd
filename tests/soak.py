"""Selecting tests: those marked `soak`, which take long, run only on request.

`--soak` requests all of them, and a file's name those of that file.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
from xdist.workermanage import WorkerController

OPTION = "--soak"
MARK = "soak"


class Choice:
    """Deselects tests that were not requested, and reports that at the run's beginning and end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._only = bool(config.getoption(MARK))
        folder = config.invocation_params.dir
        self._named = {(folder / _file(argument)).resolve() for argument in config.args}

    def pytest_report_header(self) -> str:
        """Return what the run consists of."""
        if self._only:
            return f"{OPTION}: only the tests marked {MARK}"
        return f"{MARK}: left out unless their file is named; {OPTION} runs them"

    # Before the tests are sorted: sharing a lab depends on which test comes next.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the requested tests."""
        kept = [item for item in items if self.asked(item)]
        left = [item for item in items if not self.asked(item)]
        if left:
            items[:] = kept
            config.hook.pytest_deselected(items=left)

    def asked(self, item: pytest.Item) -> bool:
        """Return whether a test was requested."""
        marked = item.get_closest_marker(MARK) is not None
        if self._only:
            return marked
        return not marked or item.path.resolve() in self._named


def _file(argument: str) -> Path:
    return Path(argument.partition("::")[0])


class Deselected:
    """Adds what workers deselect to the closing line, which pytest-xdist itself does not."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._told: list[str] = []

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Record the names of the tests that this worker deselects."""
        self._told += [item.nodeid for item in items]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Send the names, from a worker."""
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[MARK] = self._told

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController) -> None:
        """Count one worker's deselected tests: all workers deselect the same."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        told = getattr(node, "workeroutput", {}).get(MARK, [])
        if reporter is not None and told:
            reporter.stats["deselected"] = [LeftOut(name) for name in told]


@dataclass
class LeftOut:
    """A deselected test of a worker. Plugins expect attributes on everything that is reported."""

    nodeid: str
