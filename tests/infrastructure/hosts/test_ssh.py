"""Commands on hosts by SSH: real servers, on hosts of their own."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.hosts.host import Host, make_key
from tests.support.hosts.hosts import Hosts

from openvcha.infrastructure.hosts import ssh as ssh_module
from openvcha.infrastructure.hosts.address import HostAddress
from openvcha.infrastructure.hosts.commands import (
    AccessDenied,
    HostKeyChanged,
    HostUnreachable,
    quoted,
)
from openvcha.infrastructure.hosts.host_key import fingerprint
from openvcha.infrastructure.hosts.ssh import (
    Login,
    Ssh,
    SshHost,
    SshLimits,
    UnusableKey,
    known_keys,
    offered_key,
)

QUICK = SshLimits(connect=3, keepalive=0.3, keepalives=2, command=20)


def target(host: Host, *, user: str = "root", key: str = "") -> SshHost:
    return SshHost(HostAddress(user, host.management), (key or host.host_key,))


def listed(key: Path) -> str:
    """Return the fingerprint that `ssh-keygen` shows of a public key."""
    command = ["ssh-keygen", "-lf", str(key)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]


@pytest.fixture
async def ssh(hosts: Hosts) -> AsyncIterator[Ssh]:
    async with Ssh(Login((hosts.client_key,)), QUICK) as made:
        yield made


def logins(host: Host) -> int:
    return (host.directory / "console").read_text().count("Accepted publickey")


async def test_a_command_runs_on_the_host_that_is_meant(hosts: Hosts, ssh: Ssh) -> None:
    """Its exit code, output and errors are told apart; one connection serves all commands."""
    before = logins(hosts[1])
    words = quoted("sh", "-c", 'cat; echo "$1" >&2; exit 3', "sh", "a  'b")
    ended = await ssh.run(target(hosts[1]), words, stdin=b"in\n" * 200_000)
    assert (ended.code, ended.output, ended.errors) == (3, "in\n" * 200_000, "a  'b\n")
    names = await asyncio.gather(*(ssh.run(target(host), "hostname") for host in hosts.hosts * 5))
    assert {name.output.strip() for name in names} == {host.name for host in hosts.hosts}
    assert logins(hosts[1]) == before + 1


async def test_a_command_that_a_signal_ends_has_failed(hosts: Hosts, ssh: Ssh) -> None:
    """It is no success, and no silence either."""
    assert (await ssh.run(target(hosts[1]), "kill -9 $$")).code == -9


async def test_another_host_key_is_refused(hosts: Hosts, ssh: Ssh) -> None:
    """Whatever answers there gets neither a command nor our login."""
    before = logins(hosts[1])
    with pytest.raises(HostKeyChanged, match="a different host key than the known one"):
        await ssh.run(target(hosts[1], key=hosts[2].host_key), "touch /srv/reached")
    assert logins(hosts[1]) == before
    assert not (hosts[1].directory / "srv/reached").exists()


async def test_a_host_that_does_not_let_us_in_says_so(
    hosts: Hosts, ssh: Ssh, tmp_path: Path
) -> None:
    """By its account or by our key; a key of ours that is missing is our own fault."""
    with pytest.raises(AccessDenied, match="refuses the login"):
        await ssh.run(target(hosts[1], user="nobody-here"), "true")
    make_key(tmp_path / "other", "other")
    async with Ssh(Login((tmp_path / "other",)), QUICK) as stranger:
        with pytest.raises(AccessDenied):
            await stranger.run(target(hosts[1]), "true")
    async with Ssh(Login((tmp_path / "missing",)), QUICK) as keyless:
        with pytest.raises(UnusableKey):
            await keyless.run(target(hosts[1]), "true")


async def test_output_without_end_is_cut(hosts: Hosts) -> None:
    """A broken host fills no memory."""
    limits = replace(QUICK, output_bytes=100_000)
    async with Ssh(Login((hosts.client_key,)), limits) as ssh:
        with pytest.raises(HostUnreachable, match="more than 100000 bytes"):
            await ssh.run(target(hosts[1]), "yes")
        assert (await ssh.run(target(hosts[1]), "echo next")).output == "next\n"


async def test_a_command_that_hangs_ends_nothing_else(hosts: Hosts, ssh: Ssh) -> None:
    """The time limit is the command's own."""
    with pytest.raises(HostUnreachable, match=r"within 0\.5 s"):
        await ssh.run(target(hosts[1]), "sleep 600", seconds=0.5)
    assert (await ssh.run(target(hosts[1]), "echo next")).output == "next\n"


async def test_a_cable_that_is_cut_makes_a_host_unknown(hosts: Hosts, ssh: Ssh) -> None:
    """At once, not after the command's time limit; afterwards a new connection is made."""
    host = hosts[2]
    running = asyncio.create_task(ssh.run(target(host), "echo begun; sleep 600", seconds=600))
    await ssh.run(target(host), "true")
    host.cut("mgmt")
    try:
        async with asyncio.timeout(60):
            with pytest.raises(HostUnreachable):
                await running
            with pytest.raises(HostUnreachable):
                await ssh.run(target(host), "true")
    finally:
        host.heal("mgmt")
    assert (await ssh.run(target(host), "echo back")).output == "back\n"


@pytest.mark.soak
async def test_a_host_without_power_is_unknown_until_it_is_back(hosts: Hosts, ssh: Ssh) -> None:
    """A connection from before is of no use, and is not kept."""
    host = hosts[2]
    await ssh.run(target(host), "true")
    host.power_off()
    try:
        with pytest.raises(HostUnreachable):
            await ssh.run(target(host), "true")
    finally:
        host.power_on()
    assert (await ssh.run(target(host), "echo back")).output == "back\n"


async def test_a_new_host_shows_its_key(hosts: Hosts, tmp_path: Path) -> None:
    """As `ssh-keygen` shows it to whoever compares them; nobody logs in for that."""
    address = HostAddress("root", hosts[1].management)
    before = logins(hosts[1])
    offered = await offered_key(address, QUICK)
    assert offered == hosts[1].host_key
    assert logins(hosts[1]) == before
    assert listed(hosts[1].directory / "hostkey.pub") == fingerprint(offered)
    with pytest.raises(HostUnreachable, match="cannot be reached"):
        await offered_key(HostAddress("root", hosts[1].management, 1), QUICK)
    known = tmp_path / "known_hosts"
    assert known_keys(known, address) == ()
    known.write_text(f"{address.host} {offered}\n[{address.host}]:2222 {hosts[2].host_key}\n")
    assert known_keys(known, address) == (offered,)
    assert known_keys(known, replace(address, port=2222)) == (hosts[2].host_key,)


async def test_an_end_that_nobody_has_told_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The channel may be closed without an exit code: it is no success."""

    class Process:
        """A process whose end is SIMULATED to be unknown."""

        stdout = stderr = asyncio.StreamReader()
        stdin: Any = None
        returncode = None

        async def wait(self) -> None:
            """Return at once."""

        def close(self) -> None:
            """Do nothing."""

    class Connection:
        """A connection that makes one."""

        async def create_process(self, *_: object, **__: object) -> Process:
            """Return the process."""
            return Process()

    Process.stdout.feed_eof()
    connection: Any = Connection()
    monkeypatch.setattr(ssh_module, "_feed", _nothing)
    with pytest.raises(HostUnreachable, match="before the command's result was known"):
        await Ssh(Login(), QUICK)._carry_out(connection, "true", b"")


async def _nothing(*_: object) -> None:
    """Feed nothing."""
