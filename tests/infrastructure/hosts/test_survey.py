"""What the look at a host says, as values; and the script, on this machine."""

import os
import subprocess
from dataclasses import dataclass, field

import pytest

from openvcha.infrastructure.hosts.commands import HostUnreachable, Outcome
from openvcha.infrastructure.hosts.local_runner import run_here
from openvcha.infrastructure.hosts.survey import (
    SCRIPT,
    Listener,
    Program,
    Python,
    Survey,
    Unit,
    look,
    read_survey,
)

LINES = """\
now	1000.25
uid	0
os	debian 13
python	/usr/bin/python3.13 3.13.5 venv
python	/usr/bin/python3 3.13.5 -
python	/usr/bin/broken
postgresql	/usr/lib/postgresql/17/bin postgres (PostgreSQL) 17.6 (Debian 17.6-0+deb13u1)
etcd	/usr/bin/etcd etcd Version: 3.5.16
listener	0100007F:094B
listener	00000000:1538
listener	00000000000000000000000000000000:0016
listener	0000000000000000FFFF0000010212C6:20FB
listener	rubbish
socket	LISTEN 0 4096 127.0.0.1:2379 0.0.0.0:* users:(("etcd",pid=7,fd=9))
socket	LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=1,fd=3))
systemd	runs
unit	etcd enabled active
unit	postgresql
firewall	readable
nft	table inet filter {
space	1024 /var/lib/openvcha
space	unknown /elsewhere
openvcha	0.1.0
account	openvcha
unit_file	there
later	something that this version does not know
end	1000.75
""".splitlines()


def test_everything_is_read() -> None:
    """And what makes no sense is left out."""
    found = read_survey(LINES, 990.0, 991.0)
    assert found.clock is not None
    assert (found.clock.ahead, found.clock.uncertainty) == (10.0, 0.25)
    assert found == Survey(
        uid=0,
        system="debian 13",
        clock=found.clock,
        pythons=(
            Python("/usr/bin/python3.13", (3, 13, 5), venv=True),
            Python("/usr/bin/python3", (3, 13, 5)),
        ),
        postgres=(Program("/usr/lib/postgresql/17/bin", (17, 6)),),
        etcd=Program("/usr/bin/etcd", (3, 5, 16)),
        listeners=(
            Listener(2379, "127.0.0.1", "etcd"),
            Listener(5432, "0.0.0.0"),
            Listener(22, "::", "sshd"),
            Listener(8443, "198.18.2.1"),
        ),
        systemd_runs=True,
        units=(Unit("etcd", "enabled", "active"), Unit("postgresql", "not-found", "unknown")),
        firewall_readable=True,
        nft=("table inet filter {",),
        free={"/var/lib/openvcha": 1 << 20},
        openvcha="0.1.0",
        account=True,
        unit_file=True,
    )


def test_a_host_that_says_nothing_is_no_error() -> None:
    """Each check then says that it does not know."""
    assert read_survey([], 0.0, 1.0) == Survey()
    assert read_survey(["", "now", "now\tx", "space\t", "uid\t-1"], 0.0, 1.0) == Survey()


@pytest.mark.parametrize(("ahead", "pause"), [(0.0, 0.0), (3.0, 0.5), (-3.0, 5.0)])
def test_the_difference_of_two_clocks_is_within_its_uncertainty(ahead: float, pause: float) -> None:
    """However long the way there takes, or the way back."""
    for there, back in ((0.0, pause), (pause, 0.0), (pause / 2, pause / 2)):
        begun, ended = 100.0 + there, 101.0 + there
        lines = [f"now\t{begun + ahead}", f"end\t{ended + ahead}"]
        clock = read_survey(lines, 100.0, ended + back).clock
        assert clock is not None
        assert abs(clock.ahead - ahead) <= clock.uncertainty + 1e-9
        assert clock.uncertainty == pytest.approx(pause / 2)


@dataclass
class Said:
    """A host that answers the same to each command; ``asked`` has the commands."""

    outcome: Outcome
    asked: list[str] = field(default_factory=list)

    async def __call__(
        self, command: str, *, stdin: bytes = b"", seconds: float | None = None
    ) -> Outcome:
        assert (stdin, bool(seconds)) == (b"", True)
        self.asked.append(command)
        return self.outcome


@pytest.mark.parametrize(
    "outcome",
    [Outcome(1, "\n".join(LINES), "sudo: a password is required"), Outcome(0, "now\t1", "")],
)
async def test_half_a_look_is_none(outcome: Outcome) -> None:
    """What is missing at its end would count as missing on the host."""
    with pytest.raises(HostUnreachable, match="the look at the host failed"):
        await look(Said(outcome), [])


async def test_what_a_host_says_is_bounded() -> None:
    """A broken host fills no memory, and no screen."""
    long = "\n".join(["nft\t" + "x" * 5000] * 20_000 + ["end\t1"])
    with pytest.raises(HostUnreachable):
        await look(Said(Outcome(0, long, "")), [])
    found = await look(Said(Outcome(0, f"nft\t{'x' * 5000}\nend\t1", "")), [])
    assert len(found.nft[0]) < 1000


async def test_the_script_looks_at_this_machine() -> None:
    """It finds what runs the tests; its arguments are taken as they are."""
    found = await look(run_here, ["/tmp", "/no where/$(id)"])
    assert found.uid == os.geteuid()
    assert found.pythons
    assert found.clock is not None
    assert abs(found.clock.ahead) <= found.clock.uncertainty + 0.01
    assert found.free["/tmp"] > 0
    assert found.free["/no where/$(id)"] > 0


def test_the_script_is_for_any_posix_shell() -> None:
    """Nothing is installed on a host yet."""
    for shell in ("sh", "bash"):
        subprocess.run([shell, "-n", "-c", SCRIPT], check=True)
