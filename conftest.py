"""The run of the tests: what belongs to it, shared out to workers, each failure told at once.

In CI a test that is skipped fails the run: nothing may be left out without notice.
"""

import asyncio
import gc
import os

import pytest
from tests import soak, workers
from xdist.remote import Producer

from openvcha.system.structlog_light import structlog

# The looptime plugin asks for the event loop around plain tests too. Without this, Python before
# 3.14 makes one for it, which nobody closes: a warning at some later test, and so an error.
asyncio.set_event_loop(None)

# The help texts are compared as plain text; these make typer colour them, whatever their value.
for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):
    os.environ.pop(name, None)

os.environ["OPENVCHA_LAB_OCTET"] = str(workers.octet(os.environ.get("PYTEST_XDIST_WORKER", "")))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of the long tests."""
    parser.addoption(
        soak.OPTION, action="store_true", help="run the tests marked soak, and no others"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Prepare who tells of the run, or one of its workers."""
    config.pluginmanager.register(soak.Choice(config))
    config.pluginmanager.register(soak.Deselected(config))
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(workers.Worker())
        return
    config.pluginmanager.register(workers.AtOnce(config))
    if config.getoption("tx", None):
        config.pluginmanager.register(workers.Interrupt())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the longest begin first, and who shares a lab follow one another."""
    items[:] = workers.ordered(items, config.rootpath)


def pytest_collection_finish() -> None:
    """Keep what the collection made out of the garbage collections of the tests.

    It is a million objects, which stay until the end; each full collection would visit all of them.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Log as by default: a command that an earlier test has run may have changed it."""
    structlog.reset_defaults()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> workers.Scheduler:
    """Share out whole files, and labs."""
    return workers.Scheduler(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` makes."""
    return workers.count(len(os.sched_getaffinity(0)))


def _skipped(config: pytest.Config) -> list[pytest.TestReport]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("CI") != "true":
        return []
    return list(reporter.stats.get("skipped", []))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn success into failure when something was skipped."""
    if session.exitstatus == pytest.ExitCode.OK and _skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say why the run failed although every test that ran has passed."""
    if skipped := _skipped(config):
        terminalreporter.write_line(f"CI=true: {len(skipped)} skipped, which counts as failed")
