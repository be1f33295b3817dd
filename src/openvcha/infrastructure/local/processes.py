"""Processes of the nodes of the local infrastructure: start, search, kill."""

import asyncio
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from openvcha.infrastructure.local.files import make_directory
from openvcha.system.proc import read_stat

#: Ports that the parts of a node listen on: etcd (clients, peers), Patroni, PostgreSQL, API, joins.
NODE_PORTS = (2379, 2380, 8008, 5432, 8443, 8444)

#: Starts the supervisor of a node's directory, with its output to the second path; returns its
#: process id. Raises StartFailed.
Starter = Callable[[Path, Path], Awaitable[int]]


class ProcessTable(Protocol):
    """A table to find and kill the processes of a node, by the node's directory alone."""

    def find(self, directory: Path) -> list[int]:
        """Return the process ids of all running processes of the node."""
        ...

    def find_each(self, directories: Sequence[Path]) -> list[list[int]]:
        """Return the same for several nodes, in order, from one scan."""
        ...

    async def kill(self, directory: Path) -> None:
        """Kill all processes of the node at once (SIGKILL)."""
        ...


class StartFailed(Exception):  # noqa: N818 - named as in the standard library
    """The command could not be started."""


# The supervisor must not remain a child: its starter is often part of another node, and killing
# that node kills its children. So a short-lived process starts it.
_LAUNCH = """
import os, signal, sys
print(os.posix_spawn(
    sys.argv[1], sys.argv[1:], os.environ, setsid=True,
    file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)],
    setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
))
"""


class DetachedStarter:
    """A starter of ``COMMAND DIRECTORY`` in its own session, detached from this process."""

    def __init__(
        self, command: Sequence[str] = (sys.executable, "-m", "openvcha", "node", "bootstrap")
    ) -> None:
        self.command = tuple(command)

    async def __call__(self, directory: Path, console: Path) -> int:
        """Start the command; return its process id. Raises StartFailed."""
        return await asyncio.to_thread(self._start, directory, console)

    def _start(self, directory: Path, console: Path) -> int:
        make_directory(console.parent)
        output = os.open(console, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            launch = (sys.executable, "-I", "-S", "-c", _LAUNCH)
            done = subprocess.run(
                [*launch, *self.command, str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd="/",
                umask=0o077,
                check=False,
            )
        finally:
            os.close(output)
        if done.returncode != 0:
            raise StartFailed(f"{self.command[0]} could not be started")
        return int(done.stdout)


def started_at(pid: int) -> int | None:
    """Return when a live process started (clock ticks since boot); None when it is gone."""
    stat = read_stat(pid)
    return None if stat is None or stat.ended else stat.started


def address_answers(address: str, ports: Sequence[int] = NODE_PORTS) -> bool:
    """Return whether any process of this machine listens on one of the ports of an address.

    An address that this machine does not have is not in use here.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return any(_port_taken(family, address, port) for port in ports)


def _port_taken(family: socket.AddressFamily, address: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Without this, recently closed connections would count as listeners.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise
            return error.errno == errno.EADDRINUSE
        return False
