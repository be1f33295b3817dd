"""A first node on a host of its own: its public address is on an interface while it runs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.first_node import ADMINISTRATOR, SURE_SECONDS
from tests.support.hosts import plan
from tests.support.hosts.host import Host
from tests.support.hosts.hosts import hosts_on
from tests.support.waiting import until

pytestmark = [pytest.mark.engines, pytest.mark.soak]

VCHA = (sys.executable, "-m", "openvcha")
NODE = "/srv/node"
PUBLIC = str(plan.IPV4.management[100])
MADE = (
    *("init", "--loopback", "--json", "--config=/srv/openvcha.toml", f"--directory={NODE}"),
    # etcd as Debian has it serves loopback addresses only.
    *("--ha-address=127.77.1.11", "--set=network.ha_prefix=24", f"--public-address={PUBLIC}"),
)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Yield a host without a node."""
    with hosts_on(tmp_path, 1) as hosts:
        hosts[1].run("touch", "/srv/openvcha.toml")
        yield hosts[1]


def answers(host: Host, *words: str) -> bool:
    try:
        host.run(*VCHA, *words)
    except (AssertionError, subprocess.TimeoutExpired):
        return False
    return True


def test_the_public_address_is_there_while_the_node_leads(host: Host) -> None:
    """`vcha init` has configured its helper, which root starts with the node."""
    made = json.loads(host.run(*VCHA, *MADE))
    file = json.loads(host.run("cat", "/etc/openvcha/address/node.json"))
    assert (file["interface"], file["address"], file["node"]) == ("mgmt", PUBLIC, NODE)
    passwords = json.loads(host.run("cat", made["passwords_file"]))
    host.run("sh", "-c", "cat > /srv/password", stdin=passwords[ADMINISTRATOR])
    assert PUBLIC not in host.run("ip", "address", "show", "mgmt")

    run = f"{' '.join(VCHA)} node run {NODE} > /srv/log 2>&1 & echo $!"
    pid = host.run("sh", "-c", run).strip()
    until(lambda: f"{PUBLIC}/" in host.run("ip", "address", "show", "mgmt"), SURE_SECONDS)
    target = ("--server", made["api"], "--ca", made["authority"], "--user", ADMINISTRATOR)
    given = ("--password-file", "/srv/password", "--param", "partial=true")
    until(lambda: answers(host, "call", "active.get", *target, *given), SURE_SECONDS)

    host.run("kill", "-TERM", pid)
    until(lambda: PUBLIC not in host.run("ip", "address", "show", "mgmt"), SURE_SECONDS)


def test_an_address_that_an_interface_has_is_refused(host: Host) -> None:
    """It would stay there after a failover."""
    host.run("ip", "address", "add", f"{PUBLIC}/24", "dev", "mgmt")
    with pytest.raises(AssertionError):
        host.run(*VCHA, *MADE)
    shown = host.run("sh", "-c", f"{' '.join((*VCHA, *MADE))} || true")
    assert f"ip address del {PUBLIC}/24 dev mgmt" in shown
    host.run("sh", "-c", f"! test -e {NODE}")
