"""What this machine is, as far as a first node needs it; only read."""

import ctypes
import errno
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openvcha.node.engines import EngineDirectories, EtcdProgram, Postgres, find_etcd, find_postgres
from openvcha.node.first_node.netlink import MachineAddress, machine_addresses

PROGRAM_SECONDS = 10.0
_TIMEX_BYTES = 512
"""More than any kernel's structure of adjtimex, which only fills it."""
_UNSYNCHRONIZED = 5


def port_refusal(address: str, port: int) -> str:
    """Return why no program of this account can listen there; empty if one can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Without this, recently closed connections would count as listeners.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            return "" if error.errno == errno.EADDRNOTAVAIL else os.strerror(error.errno or 0)
    return ""


def clock_is_synchronized() -> bool | None:
    """Return whether the kernel's clock is synchronized; None if it does not tell."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(
            ctypes.create_string_buffer(_TIMEX_BYTES)
        )
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _UNSYNCHRONIZED)


def installed_locales() -> frozenset[str]:
    """Return the names of this machine's locales; empty if they cannot be listed."""
    program = shutil.which("locale")
    if program is None:
        return frozenset()
    try:
        done = subprocess.run(
            [program, "-a"], capture_output=True, timeout=PROGRAM_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(done.stdout.decode(errors="replace").split())


def account_id(name: str) -> int | None:
    """Return the uid of an account; None if there is none of this name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


@dataclass(frozen=True)
class Machine:
    """The questions to this machine; tests answer them otherwise."""

    addresses: Callable[[], tuple[MachineAddress, ...]] = machine_addresses
    port_refusal: Callable[[str, int], str] = port_refusal
    synchronized: Callable[[], bool | None] = clock_is_synchronized
    locales: Callable[[], frozenset[str]] = installed_locales
    account: Callable[[str], int | None] = account_id
    now: Callable[[], float] = time.time
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def postgres(self, chosen: EngineDirectories, major: int | None) -> Postgres:
        """Return the PostgreSQL that a node would use. Raises EngineMissing."""
        return find_postgres(self.environment, major, chosen.postgresql)

    def etcd(self, chosen: EngineDirectories, *, lab: bool) -> EtcdProgram:
        """Return the etcd that a node would use. Raises EngineMissing."""
        return find_etcd(self.environment, lab=lab, chosen=chosen.etcd)

    def free_bytes(self, path: Path) -> int:
        """Return the free bytes of the file system of a path, which may not exist yet."""
        return shutil.disk_usage(existing(path)).free

    def device(self, path: Path) -> int:
        """Return the file system of a path, which may not exist yet."""
        return existing(path).stat().st_dev


def existing(path: Path) -> Path:
    """Return the path, or the nearest of its parents that exists."""
    return next(each for each in (path, *path.parents) if each.exists())
