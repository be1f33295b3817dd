"""A manual deployment, as a person does it: two nodes in directories that no inventory lists."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
from com.vmware.vcenter.vcha.cluster_client import Passive
from com.vmware.vcenter.vcha_client import Cluster, IpFamily, IpSpec, Ipv4Spec, PlacementSpec
from tests.support.lab import behind_the_api as cluster
from tests.support.lab.failover import wait_for_successor
from tests.support.lab.rules import assert_rules
from tests.support.lab.running_lab import RunningLab, lab_up, run_vcha, trust
from tests.support.lab.writer import Writer
from vmware.vapi.vsphere.client import create_vsphere_client

from openvcha.lab.state import ADMINISTRATOR
from openvcha.node.identity import SECRETS, load_identity
from openvcha.node.layout import CA_KEY
from openvcha.node.process.process_tree import find_tree, is_postgres, kill_tree

pytestmark = [pytest.mark.engines, pytest.mark.soak]

NAME = "manual"
START_SECONDS = 240.0
NUMBERS = {"passive": 2, "witness": 3}
INSTEAD = 4
END_SECONDS = 120.0


@dataclass
class ByHand:
    """A lab with an active, and what a person does beside it."""

    running: RunningLab
    folder: Path
    started: ExitStack

    def address(self, role: str) -> str:
        return self.running.lab.state().ha_address(NUMBERS[role])

    def directory(self, role: str) -> Path:
        return self.folder / role

    def token(self, role: str) -> Path:
        """Request a token with the command, and write it to a file."""
        done = run_vcha(
            ["node", "token", role, "--name", NAME, "--dir", str(self.running.base)], check=True
        )
        file = self.folder / f"{role}.token"
        file.write_text(done.stdout)
        return file

    def create(self, role: str, token: Path, *, check: bool = True) -> Any:
        given = ["--join", self.running.api, "--role", role, "--ha-address", self.address(role)]
        given += ["--token-file", str(token), "--ca", str(self.running.lab.ca)]
        return run_vcha(["node", "create", str(self.directory(role)), *given], check=check)

    def run(self, role: str) -> None:
        """Start the node, as systemd would."""
        directory = self.directory(role)
        log = self.started.enter_context((self.folder / f"{role}.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "openvcha", "node", "run", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        self.started.callback(process.wait)
        self.started.callback(kill_tree, directory)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    """Yield a lab with only its active; stop and delete everything at the end."""
    base, folder = tmp_path_factory.mktemp("labs"), tmp_path_factory.mktemp("nodes")
    with lab_up(base, "--active-only", name=NAME) as running, ExitStack() as started:
        yield ByHand(running, folder, started)


def state_of(running: RunningLab) -> str:
    return str(running.admin.cluster(partial=True)["config_state"])


def sdk_ip(address: str) -> IpSpec:
    return IpSpec(
        ip_family=IpFamily.IPV4,
        ipv4=Ipv4Spec(address=address, prefix=24),
    )


async def test_from_one_node_to_a_cluster_and_its_repair(by_hand: ByHand) -> None:
    """PREPARED, two nodes join, CONFIGURED, HEALTHY; then a passive by placement.

    The node it replaces was only frozen: when thawed, it takes nothing over.
    """
    running = by_hand.running
    state = running.lab.state()
    session = requests.Session()
    session.verify = str(running.lab.ca)
    session.trust_env = False
    client = create_vsphere_client(
        running.api.removeprefix("https://"),
        username=ADMINISTRATOR,
        password=running.password(),
        session=session,
    )
    spec = Cluster.DeploySpec(
        deployment=Cluster.Type.MANUAL,
        active=Cluster.ActiveSpec(ha_ip=sdk_ip(state.ha_address(1))),
        passive=Cluster.PassiveSpec(ha_ip=sdk_ip(by_hand.address("passive"))),
        witness=Cluster.WitnessSpec(ha_ip=sdk_ip(by_hand.address("witness"))),
    )
    task = client.vcenter.vcha.Cluster.deploy_task(spec)
    assert running.admin.finished(task.get_task_id())["status"] == "SUCCEEDED"
    assert client.vcenter.vcha.Cluster.get().config_state == "PREPARED"
    assert client.vcenter.vcha.cluster.DeploymentType.get().deployment_type == "MANUAL"

    passwords = running.lab.password("app").reveal()
    with Writer(state.public_address, passwords, running.lab.ca) as writer:
        for role in NUMBERS:
            token = by_hand.token(role)
            by_hand.create(role, token)
            refused = by_hand.create(role, token, check=False)
            assert refused.returncode == 1
            assert "already holds a node" in refused.stderr
            by_hand.run(role)
            if role == "passive":
                assert_rules(running, "one joined")
        running.until(lambda: state_of(running) == "CONFIGURED", START_SECONDS)
        running.until(running.healthy, START_SECONDS)
        assert len(await cluster.sync_names(running)) == 1
        assert len(await cluster.members(running)) == 3
        assert client.vcenter.vcha.cluster.DeploymentType.get().deployment_type == "MANUAL"
        modes = [
            path.stat().st_mode & 0o077
            for role in NUMBERS
            for path in by_hand.directory(role).glob("tls/*")
        ]
        assert not any(modes)
        witness = by_hand.directory("witness")
        assert not (witness / SECRETS).exists()
        assert not (witness / CA_KEY).exists()

        frozen = by_hand.directory("passive")
        freeze(frozen)
        running.until(lambda: not running.healthy())
        placement = PlacementSpec(name="by-placement", folder=running.folder)
        # While frozen it still holds its ports.
        ha_ip = sdk_ip(state.ha_address(INSTEAD))
        repair = client.vcenter.vcha.cluster.Passive.redeploy_task(
            Passive.RedeploySpec(placement=placement, ha_ip=ha_ip)
        )
        ended = running.admin.finished(repair.get_task_id())
        assert ended["status"] == "SUCCEEDED", ended
        running.until_healthy()
        assert running.name_of("PASSIVE") == "by-placement"
        assert len(await cluster.members(running)) == 3
        await thawed_it_ends_its_database(running, frozen)
        the_next_loss_is_another_s_turn(running)
        assert databases(frozen) == []
        before = len(writer.acknowledged)
        running.until(lambda: len(writer.acknowledged) > before + 20)
        assert writer.missing() == set()
    session.close()


def the_next_loss_is_another_s_turn(running: RunningLab) -> None:
    """Check that the new copy takes over on the next loss, and not a removed node."""
    old = running.name_of("ACTIVE")
    run_vcha(["lab", "kill", "active", "--name", NAME, "--dir", str(running.base)], check=True)
    wait_for_successor(running, old)
    assert running.name_of("ACTIVE") == "by-placement"


def freeze(directory: Path) -> None:
    """Stop all processes of a node, including those it has just started."""
    stopped: set[int] = set()
    while fresh := {process.pid for process in find_tree(directory)} - stopped:
        for pid in fresh:
            os.kill(pid, signal.SIGSTOP)
        stopped |= fresh


def databases(directory: Path) -> list[str]:
    """Return the command lines of a node's running PostgreSQL."""
    return [" ".join(each.argv) for each in find_tree(directory) if is_postgres(each.argv)]


async def thawed_it_ends_its_database(running: RunningLab, directory: Path) -> None:
    """Thaw it: it tries to stream, register and lead, gets none of it, and ends its PostgreSQL."""
    member = load_identity(directory).member
    assert databases(directory)
    for process in find_tree(directory):
        os.kill(process.pid, signal.SIGCONT)
    deadline = time.monotonic() + END_SECONDS
    while left := databases(directory):
        assert member not in await cluster.sync_names(running)
        assert time.monotonic() < deadline, left
    running.until_healthy()
    (in_sync,) = await cluster.sync_names(running)
    assert in_sync.startswith("by-placement")
    shown = run_vcha(["node", "status", str(directory)], check=False)
    assert "this node was removed from its cluster" in shown.stdout, shown.stdout + shown.stderr


def test_the_join_call_needs_a_token_and_nothing_else(by_hand: ByHand) -> None:
    """It needs no session; an invalid token is refused."""
    running = by_hand.running
    with httpx2.Client(
        base_url=f"{running.api}/api", verify=trust(running.lab.ca), timeout=120
    ) as http:
        body = {
            "token": "guessed",
            "role": "PASSIVE",
            "name": "intruder",
            "ha_address": by_hand.address("passive"),
            "certificate_request": "",
        }
        reply = http.post("/openvcha/joins", json=body)
        assert (reply.status_code, reply.json()["error_type"]) == (400, "INVALID_ARGUMENT")
        assert http.post("/openvcha/join-tokens", json={"role": "PASSIVE"}).status_code == 401
