"""A lost witness, the active's placement, an undeploy: for real, with the official SDK."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import requests
from com.vmware.vapi.std import errors_client
from com.vmware.vcenter.vcha.cluster_client import Witness
from com.vmware.vcenter.vcha_client import (
    Cluster,
    ConnectionSpec,
    CredentialsSpec,
    PlacementSpec,
)
from tests.support.attackers.thief import StolenCredentials, copied, everything
from tests.support.lab import behind_the_api as cluster
from tests.support.lab.running_lab import RunningLab, message_ids, run_vcha, trust
from tests.support.lab.writer import Writer
from vmware.vapi.vsphere.client import VsphereClient, create_vsphere_client

from openvcha.cluster import patroni_client
from openvcha.lab.state import ADMINISTRATOR, READER
from openvcha.node.identity import load_identity
from openvcha.node.process.process_tree import find_tree
from openvcha.operations.steps.leaving.removed_access import NODE_FILES

pytestmark = pytest.mark.engines
SHARED_LAB = "repairs"
VCHA = "/vcenter/vcha/cluster"
GAP_SECONDS = 5.0
"""Shorter than a demotion takes, or Patroni's ttl; longer than a busy machine makes wait."""
"""On a busy machine. An active that stops for want of a vote, or of a standby, stops for longer."""


@contextmanager
def client(running: RunningLab, user: str) -> Iterator[VsphereClient]:
    """Return the official SDK, logged in."""
    session = requests.Session()
    session.verify = str(running.lab.ca)
    session.trust_env = False  # REQUESTS_CA_BUNDLE, where it is set, would override verify
    yield create_vsphere_client(
        running.api.removeprefix("https://"),
        username=user,
        password=running.password(user),
        session=session,
    )
    session.close()


@pytest.fixture
def sdk(running: RunningLab) -> Iterator[VsphereClient]:
    with client(running, ADMINISTRATOR) as found:
        yield found


@pytest.fixture
def reading(running: RunningLab) -> Iterator[VsphereClient]:
    with client(running, READER) as found:
        yield found


@pytest.fixture
def legacy(running: RunningLab) -> Iterator[httpx2.Client]:
    """Return a client of /rest."""
    with httpx2.Client(
        base_url=f"{running.api}/rest", verify=trust(running.lab.ca), timeout=30.0
    ) as http:
        login = http.post("/com/vmware/cis/session", auth=(ADMINISTRATOR, running.password()))
        http.headers["vmware-api-session-id"] = login.json()["value"]
        yield http


def peer(running: RunningLab, **changes: Any) -> CredentialsSpec:
    """Name this server itself as the vCenter that manages the nodes."""
    certificate = (running.layout(running.name_of("ACTIVE")).root / "tls" / "api.crt").read_text()
    where = {
        "hostname": running.lab.state().public_address,
        "port": 8443,
        "ssl_certificate": certificate,
        "username": ADMINISTRATOR,
        "password": running.password(),
    }
    return CredentialsSpec(active_location=ConnectionSpec(**{**where, **changes}))


def test_the_active_tells_where_it_lives(
    running: RunningLab, sdk: VsphereClient, reading: VsphereClient
) -> None:
    """Complete for an administrator; a reader gets only what needs no other vCenter."""
    found = sdk.vcenter.vcha.cluster.Active.get()
    assert found.management.ipv4.address == running.lab.state().public_address
    assert found.ha.ipv4.address == running.role("ACTIVE")["ha_ip"]["ipv4"]["address"]
    assert found.placement.vm_name == running.name_of("ACTIVE")
    assert found.placement.bios_uuid
    partial = reading.vcenter.vcha.cluster.Active.get(partial=True)
    assert partial.placement is None
    assert partial.management == found.management
    with pytest.raises(errors_client.Unauthorized):
        reading.vcenter.vcha.cluster.Active.get()


def test_the_active_is_asked_about_with_credentials(
    running: RunningLab, sdk: VsphereClient, legacy: httpx2.Client
) -> None:
    """Right, wrong, and for somebody else's certificate; REST and /rest answer alike."""
    get = sdk.vcenter.vcha.cluster.Active.get
    assert get(vc_spec=peer(running)).placement.vm_name == running.name_of("ACTIVE")
    with pytest.raises(errors_client.InvalidArgument):
        get(vc_spec=peer(running, password="wrong"))
    other = peer(running, ssl_certificate=None, ssl_thumbprint=":".join(["AA"] * 32))
    with pytest.raises(errors_client.UnverifiedPeer):
        get(vc_spec=other)
    with pytest.raises(errors_client.Error):
        get(vc_spec=peer(running, hostname="127.0.0.1", port=1))
    rest = running.admin.call("POST", f"{VCHA}/active?action=get", {})
    old = legacy.post(f"{VCHA}/active?action=get", json={})
    assert old.json()["value"] == rest
    assert rest["placement"]["bios_uuid"] == get().placement.bios_uuid


async def test_a_lost_witness_is_replaced(
    running: RunningLab, sdk: VsphereClient, writer: Writer
) -> None:
    """Refused while it is up; then three voters again, and the writer notices nothing."""
    placement = PlacementSpec(name="new-witness", folder=running.folder)
    witness = sdk.vcenter.vcha.cluster.Witness
    refused = witness.check(Witness.CheckSpec(placement=placement))
    assert [error.id.rpartition("vcha.")[2] for error in refused.errors] == ["witness.healthy"]
    body = {"placement": {"name": "new-witness", "folder": running.folder}}
    path = f"{VCHA}/witness?action=redeploy&vmw-task=true"
    error = running.admin.call("POST", path, body, 400)
    assert message_ids(error) == ["witness.healthy"]
    running.vcha("lab", "destroy", "witness")
    running.until(lambda: not running.healthy())
    found = running.vcha("witness", "check", "--placement-name", "new-witness")
    assert "nothing prevents" in found.stdout
    task = witness.redeploy_task(Witness.RedeploySpec(placement=placement))
    assert running.admin.finished(task.get_task_id())["status"] == "SUCCEEDED"
    running.until_healthy()
    voters = await cluster.members(running)
    assert len(voters) == 3
    await cluster.until_all_members_answer(running, 3)
    assert running.name_of("WITNESS") == "new-witness"
    assert writer.missing() == set()
    assert writer.longest_gap < GAP_SECONDS


def thief_of(running: RunningLab, role: str, folder: Path) -> StolenCredentials:
    """Return a thief with a copy of a node's files, who connects to the active."""
    active = load_identity(running.layout(running.name_of("ACTIVE")).root)
    return copied(running.directory(running.name_of(role)), folder / role, active)


def vms(running: RunningLab, **changes: Any) -> Cluster.VmInfo:
    """Return the VMs' names as an inventory client sees them, with the given changes."""
    by_name = {vm.name: vm for vm in running.vms()}
    passive, witness = (by_name[running.name_of(role)] for role in ("PASSIVE", "WITNESS"))
    named = {
        "passive": {"vm": passive.id, "bios_uuid": passive.bios_uuid},
        "witness": {"vm": witness.id, "bios_uuid": witness.bios_uuid},
    }
    for role, change in changes.items():
        named[role] |= change
    return Cluster.VmInfo(**{role: Cluster.NodeVmInfo(**node) for role, node in named.items()})


def test_wrong_vms_dissolve_nothing(
    running: RunningLab, sdk: VsphereClient, reading: VsphereClient
) -> None:
    """NOT_FOUND for a VM that does not exist, INVALID_ARGUMENT for one of another cluster."""
    undeploy = sdk.vcenter.vcha.Cluster.undeploy_task
    with pytest.raises(errors_client.NotFound):
        undeploy(Cluster.UndeploySpec(vms=vms(running, passive={"vm": "vm-9999"})))
    with pytest.raises(errors_client.InvalidArgument):
        undeploy(Cluster.UndeploySpec(vms=vms(running, witness={"bios_uuid": "another"})))
    wrong = peer(running, password="wrong")
    with pytest.raises(errors_client.InvalidArgument):
        undeploy(Cluster.UndeploySpec(vc_spec=wrong))
    with pytest.raises(errors_client.Unauthorized):
        reading.vcenter.vcha.Cluster.undeploy_task(Cluster.UndeploySpec())
    running.until_healthy()


async def assert_alone(running: RunningLab, writer: Writer) -> None:
    """Check for one vote, no standby to wait for, and a writer that noticed nothing."""
    assert running.admin.cluster() == {"config_state": "NOTCONFIGURED"}
    assert running.admin.call("GET", f"{VCHA}/deployment-type") == {"deployment_type": "NONE"}
    assert len(await cluster.members(running)) == 1
    async with cluster.behind(running) as services:
        assert await patroni_client.settings(services.store) == patroni_client.WITH_STANDBY
        assert (await services.patroni.node(services.identity.ha_address)).synchronous == ()
    before = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > before + 20)
    assert writer.missing() == set()
    assert writer.unknown == set()
    assert writer.longest_gap < GAP_SECONDS


async def test_undeployed_under_a_writer_and_deployed_again(
    running: RunningLab, sdk: VsphereClient, writer: Writer, tmp_path: Path
) -> None:
    """The named VMs are deleted; the single node becomes a cluster of three again.

    Files copied from the others earlier opened everything, and now open nothing.
    """
    active = running.name_of("ACTIVE")
    thieves = [thief_of(running, role, tmp_path) for role in ("PASSIVE", "WITNESS")]
    for thief in thieves:
        assert await thief.opened() == everything(thief.data)
    session = thieves[0].session()
    spec = Cluster.UndeploySpec(vms=vms(running))
    task = sdk.vcenter.vcha.Cluster.undeploy_task(spec)
    info = running.admin.finished(task.get_task_id())
    assert info["status"] == "SUCCEEDED", info
    assert [vm.name for vm in running.vms()] == [active]
    assert [await thief.opened() for thief in thieves] == [[], []]
    with pytest.raises(psycopg.OperationalError):
        session.execute("create table stolen ()")
    session.close()
    await assert_alone(running, writer)
    running.vcha("lab", "up")
    running.until_healthy()
    assert len(await cluster.members(running)) == 3


@pytest.mark.soak
async def test_kept_nodes_are_nodes_no_more(
    running: RunningLab, legacy: httpx2.Client, writer: Writer
) -> None:
    """By /rest, without a witness: no key is left, no node runs, and none is in the way."""
    running.vcha("lab", "destroy", "witness")
    running.until(lambda: not running.healthy())
    passive = running.directory(running.name_of("PASSIVE"))
    promised = legacy.post(f"{VCHA}?action=undeploy&vmw-task=true", json={"spec": {}})
    assert promised.status_code == 200, promised.text
    info = running.admin.finished(promised.json()["value"])
    assert info["status"] == "SUCCEEDED", info
    await assert_alone(running, writer)
    assert passive.exists()
    assert [path for path in NODE_FILES if (passive / path).stat().st_size] == []
    assert find_tree(passive) == []
    started = run_vcha(["node", "run", str(passive)], check=False)
    assert started.returncode != 0
    assert "no longer a node" in started.stderr
    assert find_tree(passive) == []
    refused = running.vcha("undeploy", "--yes", check=False)
    assert refused.returncode == 1
    assert "There is no cluster yet" in refused.stderr
    running.vcha("lab", "up")
    running.until_healthy()
    assert passive.exists()
