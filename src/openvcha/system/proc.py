"""Reading /proc: a process's stat (proc_pid_stat(5)), account and open files; the boot's id."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")

ENDED = frozenset("ZX")
"""The states of an ended process: zombie or dead."""


UNMAPPED_UID = 65534
"""What /proc shows for every account that our user namespace does not map."""


class Stat(NamedTuple):
    """A process: its name, state, relatives, CPU time and start (clock ticks, since boot)."""

    name: str
    state: str
    parent: int
    group: int
    session: int
    user_ticks: int
    system_ticks: int
    started: int

    @property
    def ended(self) -> bool:
        """Return whether the process has ended and is waiting to be reaped."""
        return self.state in ENDED


def read_stat(pid: int, proc: Path = PROC) -> Stat | None:
    """Return a process; None if it does not exist."""
    try:
        # Every supervisor reads it all the time: a Path would take several times as long.
        with open(f"{proc}/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - as above
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # A process name is arbitrary: it may contain spaces and parentheses.
    name, _, rest = text.partition(b"(")[2].rpartition(b")")
    state, *numbers = rest.split()
    return Stat(
        name.decode(errors="surrogateescape"),
        state.decode(),
        *(int(numbers[at]) for at in (0, 1, 2, 10, 11, 18)),
    )


def read_uid(pid: int, proc: Path = PROC) -> int | None:
    """Return the effective uid of a process; None if it has exited, or is hidden or unmapped."""
    try:
        uid = (proc / str(pid)).stat().st_uid
        if uid == UNMAPPED_UID:
            # In a user namespace our own account may have this uid too; the kernel tells them
            # apart: of another account, we may not signal a process.
            os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return uid


def open_files(pid: int, proc: Path = PROC) -> list[str]:
    """Return the paths that a process has open; none if it has exited or is hidden."""
    found = []
    with contextlib.suppress(OSError):
        for entry in (proc / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                found.append(str(entry.readlink()))
    return found


def boot_id(proc: Path = PROC) -> str:
    """Return the id of this boot of the machine, new at each boot. Raises OSError."""
    return (proc / "sys/kernel/random/boot_id").read_text().strip()
