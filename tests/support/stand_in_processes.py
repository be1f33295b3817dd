"""A stand-in for the processes of local VMs."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from openvcha.infrastructure.local.processes import started_at


class StandInProcesses:
    """Finds processes by the directory in their command line; ends only those."""

    looks = 0
    """How often it was asked for those of several nodes at once."""

    def find(self, directory: Path) -> list[int]:
        """Return the ids of live processes whose command line names the directory."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _names(entry, directory):
                pid = int(entry.name)
                if pid != os.getpid() and started_at(pid) is not None:
                    found.append(pid)
        return sorted(found)

    def find_each(self, directories: Sequence[Path]) -> list[list[int]]:
        """Return the ids for several directories; count the call."""
        self.looks += 1
        return [self.find(directory) for directory in directories]

    async def kill(self, directory: Path) -> None:
        """Kill the processes of a directory."""
        for pid in self.find(directory):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _names(entry: Path, directory: Path) -> bool:
    try:
        return os.fsencode(directory) in (entry / "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
