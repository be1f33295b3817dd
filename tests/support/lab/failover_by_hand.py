"""Failing over a lab by hand."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.lab.running_lab import RunningLab

from openvcha.node.patroni.config import LAUNCHER
from openvcha.node.process.process_tree import find_tree, send

PATH = "/vcenter/vcha/cluster?action=failover&vmw-task=true"


@contextmanager
def unattended(running: RunningLab, name: str) -> Iterator[None]:
    """Stop Patroni of a node, so that nothing stops its PostgreSQL."""
    found = [p for p in find_tree(running.directory(name)) if LAUNCHER in p.argv]
    for process in found:
        send(process, signal.SIGSTOP)
    assert found
    try:
        yield
    finally:
        for process in found:
            send(process, signal.SIGCONT)
