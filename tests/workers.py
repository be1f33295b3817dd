"""Distributing the tests to the workers of a parallel run (pytest-xdist).

A file stays in one worker, and so do all modules that share a lab. The longest groups begin first,
so that no worker ends long after the others.
"""

import contextlib
import functools
import os
import re
import signal
import time
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling
from xdist.workermanage import WorkerController

SHARED = re.compile(r'^SHARED_LAB = "(.+)"$', re.MULTILINE)
TAKE_DOWN_SECONDS = 600.0
LONGEST_FIRST = (
    "tests/e2e/",
    "tests/lab/",
    # Of ten seconds and more. Those that wait for engines stand beside those that compute: a core
    # would idle if all workers waited at once.
    "tests/store/etcd/test_users_and_roles.py",
    "tests/api_server/answers/test_description.py",
    "tests/node/background/test_access_repair.py",
    "tests/operations/test_mode.py",
    "tests/attacks/stolen_witness/test_stolen_witness.py",
    "tests/operations/test_redeploy.py",
    "tests/attacks/stolen_witness/test_fake_witness.py",
    "tests/attacks/api/test_strangers_at_the_door.py",
    "tests/node/test_node.py",
    "tests/api/codec/test_roundtrip.py",
    "tests/node/first_node/test_served.py",
    "tests/api_server/answers/test_each_error.py",
    "tests/node/address/interface/test_on_interfaces.py",
    "tests/operations/test_undeploy_failed.py",
    "tests/node/postgres/diagnosis/test_user_settings.py",
    "tests/operations/test_failover.py",
    "tests/store/etcd/test_account_token.py",
    "tests/attacks/machine/test_root.py",
    "tests/store/etcd/test_cluster.py",
    "tests/test_workers.py",
    "tests/node/process/test_inherits_nothing.py",
    "tests/api_server/test_mutations.py",
    "tests/store/test_lease.py",
    "tests/operations/steps/test_transient.py",
    "tests/store/test_every_store.py",
    "tests/test_soak.py",
    "tests/infrastructure/hosts/test_ssh.py",
    "tests/daemon/api_processes/test_processes.py",
    "tests/operations/test_observe_cached.py",
    "tests/infrastructure/local/test_switch_process.py",
    "tests/attacks/stolen_witness/test_etcd_log.py",
)


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Gives each worker one group of tests after the other."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False  # the tests come in the order of `ordered`
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group(self.config.rootpath, nodeid.partition("::")[0])

    def _reschedule(self, node: WorkerController) -> None:
        # A worker runs a test once it knows the next one. A group assigned too early waits behind
        # the worker's own, while another worker could run it.
        if not self.workqueue or self._pending_of(self.assigned_work[node]) <= 1:
            super()._reschedule(node)


def count(cores: int) -> int:
    """Return how many workers these cores can feed: tests wait more than they compute."""
    return cores + 1


def octet(worker: str) -> int:
    """Return where a worker's labs begin to look for addresses, apart from all other labs.

    A lab whose nodes are all off answers nothing: another would take its addresses.
    """
    number = int(worker.removeprefix("gw") or 0)
    return 90 + 30 * (number % 4)


@functools.cache
def group(root: Path, file: str) -> str:
    """Return the group of a test file: the lab that it shares with others, or itself."""
    shared = SHARED.search((root / file).read_text())
    return f"{Path(file).parent}@{shared[1]}" if shared else file


def ordered(items: list[pytest.Item], root: Path) -> list[pytest.Item]:
    """Return the tests in the order in which they begin: the longest, then groups with many."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group(root, item.nodeid.partition("::")[0]), []).append(item)
    queue = sorted(groups.items(), key=lambda named: (_place(named[0]), -len(named[1])))
    return [item for _, members in queue for item in members]


def _place(group: str) -> int:
    return next(
        (at for at, place in enumerate(LONGEST_FIRST) if group.startswith(place.rstrip("/"))),
        len(LONGEST_FIRST),
    )


class Interrupt:
    """Lets the workers tear down their fixtures, even after Ctrl-C.

    Otherwise they are killed within seconds, and labs stay up.
    """

    def __init__(self) -> None:
        self._workers: list[WorkerController] = []
        self._interrupted = False

    def pytest_testnodeready(self, node: WorkerController) -> None:
        """Record a worker that runs."""
        self._workers.append(node)

    def pytest_keyboard_interrupt(self) -> None:
        """Record that this run was interrupted."""
        self._interrupted = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Interrupt the workers of an interrupted run, and wait until they have ended."""
        if not self._interrupted:
            return
        for worker in self._workers:
            if not worker.channel.isclosed():
                os.kill(worker.gateway._io.popen.pid, signal.SIGINT)
                worker.shutdown()  # or one that goes on would wait for its next test
        deadline = time.monotonic() + TAKE_DOWN_SECONDS
        for worker in self._workers:
            gone = (worker.channel.TimeoutError, worker.channel.RemoteError, EOFError)
            with contextlib.suppress(*gone):
                worker.channel.waitclose(max(0.0, deadline - time.monotonic()))


class AtOnce:
    """Reports a failure when it happens; pytest reports all again at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write why a test failed."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and report.failed:
            reporter.ensure_newline()
            reporter.write_sep("!", f"{report.nodeid} failed in its {report.when}")
            reporter.write_line(report.longreprtext)


class Worker:
    """Stops a worker in order at the first SIGINT: a terminal and the controller both send one."""

    def __init__(self) -> None:
        self._session: pytest.Session | None = None
        signal.signal(signal.SIGINT, self._interrupt)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Record the session to stop."""
        self._session = session

    def _interrupt(self, number: int, _: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._session is not None:
            # The running test may take the exception for its own, and go on.
            self._session.shouldstop = "interrupted"
        signal.default_int_handler(number, None)
