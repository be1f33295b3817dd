"""Processes of another account whose command lines name a node: they are not part of it."""

import asyncio
import contextlib
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openvcha.node.background.isolation import IsolationGuard, QuorumState
from openvcha.node.layout import Layout
from openvcha.node.process.lock import NodeRuns, lock_node
from openvcha.node.process.process_tree import NodeProcesses, StillAlive, find_tree, kill_tree
from openvcha.node.process.reaper import Reaper
from openvcha.system.accounts.privileges import namespace_works, unshare_command
from openvcha.system.files.path_owners import acting_as

OWNER, STRANGER = pwd.getpwnam("daemon"), pwd.getpwnam("nobody")
LATEST = 60.0
CUT_OFF = QuorumState(voters=3, paused=False, lacks_quorum=True, silent_seconds=60.0)
FIND = """
import sys
from pathlib import Path
from openvcha.node.process.process_tree import find_tree, kill_tree
directory = Path(sys.argv[1])
print(*sorted(process.pid for process in find_tree(directory)))
kill_tree(directory)
"""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can be another account too: run these tests as root"
)


class NamedProcesses:
    """A node's directory, and processes that name it."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.layout = Layout(directory)
        self.layout.pgdata.mkdir()
        (self.layout.pgdata / "postgresql.conf").write_text("")
        self._stack = stack

    def start(self, uid: int) -> list[subprocess.Popen[bytes]]:
        """Start what looks like this node's supervisor, etcd and PostgreSQL."""
        root = self.layout.root
        return [
            self._start(uid, "postgres", "-D", str(self.layout.pgdata)),
            self._start(uid, "etcd", f"--data-dir={self.layout.etcd_data}"),
            self._start(uid, "python3", "-m", "openvcha", "node", "run", str(root)),
        ]

    def _start(self, uid: int, name: str, *words: str) -> subprocess.Popen[bytes]:
        # The shell waits for its input, and takes the words as its parameters.
        made = subprocess.Popen(
            [name, "-c", "read _", *words],
            executable="/bin/sh",
            stdin=subprocess.PIPE,
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
        )
        self._stack.enter_context(made)
        self._stack.callback(made.kill)
        return made


@pytest.fixture
def processes() -> Iterator[NamedProcesses]:
    """Return the node of an account that is not root."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = NamedProcesses(directory, stack)
        for path in (directory, *directory.rglob("*")):
            os.chown(path, OWNER.pw_uid, OWNER.pw_gid)
        yield made


def all_run(started: list[subprocess.Popen[bytes]]) -> bool:
    return all(process.poll() is None for process in started)


async def test_the_fence_ends_the_nodes_own_postgres(processes: NamedProcesses) -> None:
    """A process that it may not signal neither stops it nor counts as PostgreSQL."""
    own, others = processes.start(OWNER.pw_uid), processes.start(STRANGER.pw_uid)
    log: Any = type("Log", (), {"warning": lambda *_, **__: None})()
    await asyncio.to_thread(int)  # loads modules that the account may not be able to read
    with acting_as(OWNER.pw_uid, OWNER.pw_gid):
        guard = IsolationGuard(processes.layout, log)
        assert await guard.enforce(CUT_OFF)
    assert guard.failure is None
    assert own[0].wait(LATEST) == -signal.SIGKILL
    assert all_run(own[1:] + others)


def test_only_the_nodes_own_processes_are_ended(processes: NamedProcesses) -> None:
    """By the node's account, and by root, which might signal all: root's own stay as well."""
    others = processes.start(STRANGER.pw_uid) + processes.start(0)
    for act in (contextlib.nullcontext(), acting_as(OWNER.pw_uid, OWNER.pw_gid)):
        own = processes.start(OWNER.pw_uid)
        with act:
            found = find_tree(processes.layout.root)
            kill_tree(processes.layout.root)
        assert {process.pid for process in found} == {process.pid for process in own}
        assert [process.wait(LATEST) for process in own] == [-signal.SIGKILL] * len(own)
        assert all_run(others)


def test_strangers_keep_no_node_on(processes: NamedProcesses) -> None:
    """The reaper has nothing to wait for, and a VM without processes of its own is off."""
    others = processes.start(STRANGER.pw_uid)
    with acting_as(OWNER.pw_uid, OWNER.pw_gid):
        assert NodeProcesses().find(processes.layout.root) == []
        assert Reaper(processes.layout.root, others[-1].pid).end() == []
    assert all_run(others)


HOLD = """
import sys
from pathlib import Path
from openvcha.node.process.lock import lock_node
with lock_node(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("user", [0, OWNER.pw_uid])
def test_a_node_that_runs_under_an_earlier_account_is_not_off(
    processes: NamedProcesses, user: int
) -> None:
    """It holds the lock, which no stranger can open, of a directory that was given away."""
    lock = processes.layout.lock
    processes.layout.run.mkdir()
    argv = [sys.executable, "-c", HOLD, str(lock)]
    asyncio.run(asyncio.to_thread(int))  # loads modules that the account may not be able to read
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        for path in (processes.layout.run, lock):
            os.chown(path, OWNER.pw_uid, OWNER.pw_gid)
        said = rf"process {holder.pid} of account root; .* `kill {holder.pid}`"
        with acting_as(user, user) if user else contextlib.nullcontext():
            with pytest.raises(StillAlive, match=said):
                asyncio.run(NodeProcesses().kill(processes.layout.root))
            with pytest.raises(NodeRuns, match=said if user else "is already"), lock_node(lock):
                pass
        holder.communicate()
    with acting_as(OWNER.pw_uid, OWNER.pw_gid):
        asyncio.run(NodeProcesses().kill(processes.layout.root))


def test_a_user_namespace_hides_no_difference() -> None:
    """In there, every account that it does not map has the same uid as the node's own."""
    if not namespace_works():
        return  # no node of this machine runs in one
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes = NamedProcesses(directory, stack)
        own = processes.start(0)
        others = processes.start(STRANGER.pw_uid) + processes.start(OWNER.pw_uid)
        done = subprocess.run(
            [*unshare_command(), sys.executable, "-c", FIND, str(directory)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == sorted(str(process.pid) for process in own)
        assert [process.wait(LATEST) for process in own] == [-signal.SIGKILL] * len(own)
        assert all_run(others)
