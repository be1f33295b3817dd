"""The hosts of the tests: apart from each other and from this machine, and gone afterwards."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.hosts import namespaces, plan
from tests.support.hosts.host import Host
from tests.support.hosts.hosts import Hosts, hosts_on, why_impossible
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(bool(why_impossible()), reason=why_impossible() or "")
ROOT = Path(__file__).parents[1]
REACH = """
import errno, socket, sys
with socket.socket() as tried:
    tried.settimeout(1)
    # Nothing listens there: who is reached refuses.
    print(tried.connect_ex((sys.argv[1], 9)) == errno.ECONNREFUSED)
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with hosts_on(tmp_path_factory.mktemp("hosts"), 2, (plan.IPV4, plan.IPV6)) as made:
        yield made


def ssh(hosts: Hosts, number: int, command: str) -> str:
    """Run a command on a host, as a person would; the host's key is checked."""
    host = hosts[number]
    known = hosts.client_key.with_name("known")
    known.write_text(f"{host.management} {host.host_key}\n")
    done = subprocess.run(
        [
            *("ip", "netns", "exec", hosts.switch, "ssh", "-F", "none", "-i", hosts.client_key),
            *("-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"),
            *(f"root@{host.management}", command),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def reaches(host: Host, address: str) -> bool:
    """Return whether a host gets an answer from an address."""
    return host.run(sys.executable, "-c", REACH, address).strip() == "True"


def test_a_host_has_its_own_name_processes_files_and_addresses(hosts: Hosts) -> None:
    """Whoever logs in sees nothing of the other host, nor of this machine."""
    assert ssh(hosts, 1, "hostname") == hosts[1].name
    assert "sshd" in ssh(hosts, 1, "cat /proc/1/cmdline | tr '\\0' ' '")
    assert str(os.getpid()) not in ssh(hosts, 1, "ls /proc").split()
    ssh(hosts, 1, "echo mine >/srv/file; echo mine >/etc/file; echo mine >/run/file")
    assert ssh(hosts, 1, "cat /srv/file /etc/file /run/file").split() == ["mine"] * 3
    assert ssh(hosts, 2, "cat /srv/file /etc/file /run/file 2>/dev/null || echo none") == "none"
    assert not Path("/etc/file").exists()
    found = ssh(hosts, 2, "ip -brief address")
    assert all(address in found for address in ("198.18.1.12/24", "2001:db8:0:2::c/64"))


def test_a_cable_that_is_cut_separates_one_network(hosts: Hosts) -> None:
    """Until it is healed; the other network goes on."""
    one, two = hosts[1], hosts[2]
    two.cut("ha")
    try:
        assert not reaches(one, two.ha)
        assert reaches(one, two.management)
        assert two.ha in two.run("ip", "-brief", "address")
    finally:
        two.heal("ha")
    until(lambda: reaches(one, two.ha), 20)


def test_power_off_ends_everything_and_keeps_the_disk(hosts: Hosts) -> None:
    """Also what has left the session that started it."""
    host = hosts[2]
    ssh(hosts, 2, "echo kept >/srv/kept; setsid sleep 4242 >/dev/null 2>&1 </dev/null &")
    assert "4242" in host.run("ps", "-e", "-o", "args")
    host.power_off()
    try:
        assert namespaces.pids(host.name) == []
        assert not (namespaces.NAMED / host.name).exists()
        assert not reaches(hosts[1], host.management)
    finally:
        host.power_on()
    assert ssh(hosts, 2, "cat /srv/kept") == "kept"
    assert "4242" not in host.run("ps", "-e", "-o", "args")


CRASH = """
import os, signal, sys
from pathlib import Path
from tests.support.hosts.hosts import hosts_on
with hosts_on(Path(sys.argv[1]), 1) as hosts:
    print(hosts.prefix, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_or_interrupted_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    """What it was powered on is off at once; the next run removes the names."""
    run = subprocess.Popen(
        [sys.executable, "-c", CRASH, tmp_path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with run:
        assert run.stdout
        prefix = run.stdout.readline().strip()
        assert [name for name in namespaces.names() if name.startswith(prefix)]
        run.send_signal(number)
        run.wait()
    until(lambda: namespaces.pids(f"{prefix}-h1") == [], 20)
    if number is signal.SIGKILL:
        namespaces.remove_leftovers()
    assert not [name for name in namespaces.names() if name.startswith(prefix)]


def test_the_namespaces_of_a_run_that_goes_on_are_no_leftovers(hosts: Hosts) -> None:
    """Several workers have hosts at once."""
    namespaces.remove_leftovers()
    assert ssh(hosts, 1, "hostname") == hosts[1].name
