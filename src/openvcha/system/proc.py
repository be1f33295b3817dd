"""What the kernel shows of a process in /proc/PID/stat (proc_pid_stat(5))."""

from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")

ENDED = frozenset("ZX")
"""The states of what is left of a process: a zombie, or dead."""


class Stat(NamedTuple):
    """A process: its name, state, kin, CPU time and start (clock ticks, since boot)."""

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
        """Return whether it has ended and only waits to be reaped."""
        return self.state in ENDED


def read_stat(pid: int, proc: Path = PROC) -> Stat | None:
    """Read a process; None when there is no such one."""
    try:
        text = (proc / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is what a program calls itself: it may hold spaces and parentheses.
    name, _, rest = text.partition(b"(")[2].rpartition(b")")
    state, *numbers = rest.split()
    return Stat(
        name.decode(errors="surrogateescape"),
        state.decode(),
        *(int(numbers[at]) for at in (0, 1, 2, 10, 11, 18)),
    )
