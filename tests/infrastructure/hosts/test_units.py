"""Starting nodes of a host as units of systemd, where it runs; SIMULATED commands."""

from pathlib import Path

import pytest

from openvcha.infrastructure.hosts.commands import Outcome
from openvcha.infrastructure.hosts.units import NAME, NodeUnits
from openvcha.infrastructure.local.processes import StartFailed

NODES = Path("/var/lib/openvcha/nodes")


class SimulatedSystemctl:
    """Records the commands; those with the word in ``fails`` fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails = "nothing"
        self.pid = "4711"

    async def __call__(
        self, command: str, *, stdin: bytes = b"", seconds: float | None = None
    ) -> Outcome:
        assert (stdin, bool(seconds)) == (b"", True)
        words = command.removeprefix("sudo -n ").removeprefix("/usr/bin/systemctl ")
        self.ran.append(words)
        code = int(words.startswith(self.fails))
        return Outcome(code, self.pid if words.startswith("show") else "", "no such unit")


@pytest.fixture
def systemctl() -> SimulatedSystemctl:
    return SimulatedSystemctl()


def units(systemctl: SimulatedSystemctl, *, present: bool = True) -> NodeUnits:
    async def tree(directory: Path, console: Path) -> int:
        assert console == directory / "console"
        return 1

    return NodeUnits(tree, present=present, run=systemctl)


async def test_a_node_is_a_unit_that_starts_with_the_host(systemctl: SimulatedSystemctl) -> None:
    """Its process is that of systemd's."""
    directory = NODES / "passive-2"
    assert await units(systemctl)(directory, directory / "console") == 4711
    unit = "openvcha-node@passive-2.service"
    assert systemctl.ran[:2] == [f"enable {unit}", f"start {unit}"]
    assert systemctl.ran[2].startswith("show ")


async def test_a_unit_that_is_killed_is_not_started_again(systemctl: SimulatedSystemctl) -> None:
    """Neither by systemd's own rule nor at the next boot of the host."""
    await units(systemctl).forget(NODES / "passive-2")
    unit = "openvcha-node@passive-2.service"
    assert systemctl.ran == [f"disable {unit}", f"kill -s KILL {unit}", f"stop {unit}"]


async def test_a_unit_that_stays_enabled_is_told(systemctl: SimulatedSystemctl) -> None:
    """It is stopped all the same; but it would start whatever has its place later."""
    systemctl.fails = "disable"
    with pytest.raises(OSError, match="systemctl disable openvcha-node@passive-2"):
        await units(systemctl).forget(NODES / "passive-2")
    assert [words.split()[0] for words in systemctl.ran] == ["disable", "kill", "stop"]


@pytest.mark.parametrize(
    ("directory", "present"),
    [(NODES / "passive-2", False), (Path("/srv/passive-2"), True), (NODES / "a b", True)],
)
async def test_anything_else_is_a_process_tree(
    systemctl: SimulatedSystemctl, directory: Path, present: bool
) -> None:
    """A host without systemd, another datastore, a name that the sudo rule does not allow."""
    found = units(systemctl, present=present)
    assert await found(directory, directory / "console") == 1
    await found.forget(directory)
    assert systemctl.ran == []


@pytest.mark.parametrize("fails", ["enable", "start"])
async def test_a_start_that_fails_says_why(systemctl: SimulatedSystemctl, fails: str) -> None:
    """In systemd's words; also if it does not know the process."""
    systemctl.fails = fails
    with pytest.raises(StartFailed, match="no such unit"):
        await units(systemctl)(NODES / "a", NODES / "a" / "console")
    systemctl.fails, systemctl.pid = "nothing", ""
    with pytest.raises(StartFailed, match="does not tell"):
        await units(systemctl)(NODES / "a", NODES / "a" / "console")


@pytest.mark.parametrize("name", ["-a", ".a", "", "a/b", "a b", "a\n", "ä"])
def test_names_that_mean_something_else_are_no_units(name: str) -> None:
    """To systemctl an argument that begins with a dash is an option."""
    assert not NAME.fullmatch(name)
