"""Starting nodes of a host: as units of systemd where it runs, else as supervised process trees."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from openvcha.infrastructure.hosts.commands import Outcome, as_root, quoted
from openvcha.infrastructure.hosts.local_runner import run_here
from openvcha.infrastructure.local.processes import Starter, StartFailed

NODES = Path("/var/lib/openvcha/nodes")
UNIT_FILE = Path("/etc/systemd/system/openvcha-node@.service")
SYSTEMD = Path("/run/systemd/system")
SYSTEMCTL = "/usr/bin/systemctl"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
"""What the sudo rule allows."""
SECONDS = 120.0

Run = Callable[..., Awaitable[Outcome]]


class NodeUnits:
    """A starter of nodes, and who ends them for good.

    Only a node in NODES whose name is plain is a unit; every other one is a process tree.
    """

    def __init__(
        self, starter: Starter, *, present: bool, run: Run = run_here, nodes: Path = NODES
    ) -> None:
        self._starter = starter
        self._present = present
        self._run = run
        self._nodes = nodes

    async def __call__(self, directory: Path, console: Path) -> int:
        """Start the node of a directory; return its process id. Raises StartFailed."""
        unit = self._unit(directory)
        if unit is None:
            return await self._starter(directory, console)
        for verb in ("enable", "start"):
            outcome = await self._systemctl(verb, unit)
            if outcome.code != 0:
                raise StartFailed(f"systemctl {verb} {unit}: {outcome.errors.strip()[-500:]}")
        show = quoted(SYSTEMCTL, "show", "--property=MainPID", "--value", unit)
        shown = await self._run(show, seconds=SECONDS)
        if not shown.output.strip().isdecimal():
            raise StartFailed(f"systemctl does not tell the process of {unit}")
        return int(shown.output)

    async def forget(self, directory: Path) -> None:
        """Keep a unit from being started again, and kill it; do nothing for a process tree.

        Raises OSError if the host would start it again.
        """
        unit = self._unit(directory)
        if unit is None:
            return
        disabled = await self._systemctl("disable", unit)
        # The kill ends what `stop` would wait for; `stop` ends the wait for a restart.
        for words in (("kill", "-s", "KILL", unit), ("stop", unit)):
            await self._systemctl(*words)
        if disabled.code != 0:
            raise OSError(f"systemctl disable {unit}: {disabled.errors.strip()[-500:]}")

    async def _systemctl(self, *words: str) -> Outcome:
        return await self._run(quoted(*as_root(SYSTEMCTL, *words)), seconds=SECONDS)

    def _unit(self, directory: Path) -> str | None:
        plain = directory.parent == self._nodes and NAME.fullmatch(directory.name)
        return f"openvcha-node@{directory.name}.service" if self._present and plain else None


def node_units(starter: Starter) -> NodeUnits:
    """Return the starter for this machine."""
    return NodeUnits(starter, present=SYSTEMD.is_dir() and UNIT_FILE.is_file())
