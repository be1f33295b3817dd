"""Reading /proc: PID/stat (proc_pid_stat(5)) and the id of the boot."""

from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")

ENDED = frozenset("ZX")
"""The states of an ended process: zombie or dead."""


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
        text = (proc / str(pid) / "stat").read_bytes()
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


def boot_id(proc: Path = PROC) -> str:
    """Return the id of this boot of the machine, new at each boot. Raises OSError."""
    return (proc / "sys/kernel/random/boot_id").read_text().strip()
