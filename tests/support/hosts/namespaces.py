"""Network namespaces of one test run, and the end of those that dead runs have left.

Their names carry the run: the process, and when it started, since process numbers come again.
"""

import ctypes
import itertools
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waiting import until

from openvcha.system.proc import read_stat

NAMED = Path("/run/netns")
OWN_NETWORK = Path("/proc/thread-self/ns/net")
NAME = re.compile(r"(hosts-(\d+)-(\d+)-\d+)-\w+")
COMMAND_SECONDS = 60
END_SECONDS = 60
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def new_prefix() -> str:
    """Return the beginning of the names of one more set of namespaces of this process."""
    own = read_stat(os.getpid())
    assert own
    return f"hosts-{os.getpid()}-{own.started}-{next(_numbers)}"


def network(*lines: str, namespace: str = "") -> None:
    """Have `ip` carry out several commands, in a namespace."""
    where = ["-n", namespace] if namespace else []
    _run(["ip", *where, "-batch", "-"], stdin="".join(f"{line}\n" for line in lines))


def add(name: str) -> None:
    """Create a namespace whose loopback works."""
    _run(["ip", "netns", "add", name])
    network("link set lo up", namespace=name)


def remove(name: str) -> None:
    """End all processes of a namespace, and remove it with its interfaces."""
    assert os.getpid() not in pids(name), f"this process itself is in {name}"
    until(lambda: _ended(name), END_SECONDS, seen=lambda: pids(name))
    try:
        _run(["ip", "netns", "del", name])
    except AssertionError:
        # Another run may have removed it, as a leftover.
        if name in names():
            raise


def remove_all(prefix: str) -> None:
    """Remove all namespaces of one set, also of one that was made in part."""
    for name in names():
        if name.startswith(f"{prefix}-"):
            remove(name)


def remove_leftovers() -> None:
    """Remove the namespaces of all runs that have ended without doing so themselves."""
    for prefix in {found[1] for found in map(NAME.fullmatch, names()) if found and _dead(found)}:
        remove_all(prefix)


def names() -> list[str]:
    """Return the names of all network namespaces of this machine."""
    return sorted(path.name for path in NAMED.iterdir()) if NAMED.is_dir() else []


def pids(name: str) -> list[int]:
    """Return the processes of a namespace; none if it does not exist."""
    done = subprocess.run(
        ["ip", "netns", "pids", name],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    return [int(word) for word in done.stdout.split()]


def interfaces(name: str) -> list[str]:
    """Return the names of a namespace's interfaces."""
    return [link["ifname"] for link in json.loads(_run(["ip", "-n", name, "-json", "link"]))]


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Let this thread use the network of a namespace; programs that it starts do so too."""
    before = os.open(OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NAMED / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _change_network(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _change_network(before)
    finally:
        os.close(before)


def _change_network(descriptor: int) -> None:
    # Before 3.12, Python's own os module has no setns.
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _dead(found: re.Match[str]) -> bool:
    run = read_stat(int(found[2]))
    return run is None or run.ended or run.started != int(found[3])


def _ended(name: str) -> bool:
    left = pids(name)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not left


def _run(command: Sequence[str], stdin: str = "") -> str:
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{stdin}"
    return done.stdout
