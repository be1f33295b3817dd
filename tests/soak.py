"""What a run leaves out: tests marked `soak`, which take long, unless it asks for them.

It asks for them all with `--soak`, and for those of a file by the file's name.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
from xdist.workermanage import WorkerController

OPTION = "--soak"
MARK = "soak"


class Choice:
    """Leaves out what this run does not ask for, and says so at its beginning and at its end."""

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

    # Before the tests are put in order: who shares a lab looks at what comes next.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep what is asked for."""
        kept = [item for item in items if self.asked(item)]
        left = [item for item in items if not self.asked(item)]
        if left:
            items[:] = kept
            config.hook.pytest_deselected(items=left)

    def asked(self, item: pytest.Item) -> bool:
        """Return whether the run asks for a test."""
        marked = item.get_closest_marker(MARK) is not None
        if self._only:
            return marked
        return not marked or item.path.resolve() in self._named


def _file(argument: str) -> Path:
    return Path(argument.partition("::")[0])


class Deselected:
    """Brings what workers leave out into the closing line: pytest-xdist itself does not."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._told: list[str] = []

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Keep the names of what this worker leaves out."""
        self._told += [item.nodeid for item in items]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Send them, from a worker."""
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[MARK] = self._told

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController) -> None:
        """Count what one of the workers has left out: each has left out the same."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        told = getattr(node, "workeroutput", {}).get(MARK, [])
        if reporter is not None and told:
            reporter.stats["deselected"] = [LeftOut(name) for name in told]


@dataclass
class LeftOut:
    """A test that a worker has left out. Plugins look for attributes of all that is reported."""

    nodeid: str
