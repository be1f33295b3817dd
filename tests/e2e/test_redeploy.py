"""The main task: the passive is lost, one call restores the cluster, and no row is lost."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
from com.vmware.vcenter.vcha.cluster_client import Passive
from com.vmware.vcenter.vcha_client import PlacementSpec
from tests.support.lab import behind_the_api as cluster
from tests.support.lab.running_lab import RunningLab, trust
from tests.support.lab.writer import Writer
from tests.support.sockets import connections, descriptors
from vmware.vapi.vsphere.client import create_vsphere_client

from openvcha.lab.state import ADMINISTRATOR
from openvcha.node.process.status import load_status
from openvcha.store.etcd.gateway import MAX_IDLE
from openvcha.system.thumbprints import thumbprint_sha256

pytestmark = pytest.mark.engines
SHARED_LAB = "repairs"
OWN_DESCRIPTORS = 20
"""etcd's files, pipes, listening sockets and the kernel's queues: 12 were counted."""
README = Path(__file__).parents[2] / "README.md"


async def assert_repaired(running: RunningLab, name: str, writer: Writer) -> None:
    """Check that the cluster is what it was before the loss, in every respect that counts."""
    running.until_healthy()
    assert running.name_of("PASSIVE") == name
    (in_sync,) = await cluster.sync_names(running)
    assert in_sync.startswith(name)
    voters = await cluster.members(running)
    assert len(voters) == 3
    assert not any(member.learner for member in voters)
    assert in_sync in {member.name for member in voters}
    await cluster.until_all_members_answer(running, 3)
    cluster.verify_checksums(running, name)
    assert writer.missing() == set()
    assert {vm.name for vm in running.vms()} == {
        running.name_of(role) for role in ("ACTIVE", "PASSIVE", "WITNESS")
    }


async def test_official_sdk_with_only_the_required_fields(
    running: RunningLab, writer: Writer
) -> None:
    """The unmodified official SDK repairs the cluster with a name and a folder."""
    running.lose_passive()
    session = requests.Session()
    session.verify = str(running.lab.ca)
    session.trust_env = False  # REQUESTS_CA_BUNDLE, where it is set, would override verify
    client = create_vsphere_client(
        running.api.removeprefix("https://"),
        username=ADMINISTRATOR,
        password=running.password(),
        session=session,
    )
    spec = Passive.RedeploySpec(placement=PlacementSpec(name="from-sdk", folder=running.folder))
    task = client.vcenter.vcha.cluster.Passive.redeploy_task(spec)
    running.admin.finished(task.get_task_id())
    assert task.get_info().status == "SUCCEEDED"
    found = client.vcenter.vcha.Cluster.get()
    assert found.health_state == "HEALTHY"
    assert found.health_warnings is None
    await assert_repaired(running, "from-sdk", writer)
    session.close()


def all_fields(running: RunningLab) -> dict[str, Any]:
    """Return a specification with every field set."""
    state = running.lab.state()
    api_certificate = running.layout(running.name_of("ACTIVE")).root / "tls" / "api.crt"
    taken = {vm.host for vm in running.vms()}
    host = next(h for h in ("host-11", "host-12", "host-13") if h not in taken)

    def ip(address: str) -> dict[str, Any]:
        ipv4 = {"address": address, "subnet_mask": "255.255.255.0", "prefix": 24}
        return {"ip_family": "IPV4", "ipv4": ipv4, "dns_servers": []}

    return {
        "vc_spec": {
            "active_location": {
                "hostname": state.public_address,
                "port": 8443,
                "ssl_thumbprint": thumbprint_sha256(api_certificate.read_bytes()),
                "username": ADMINISTRATOR,
                "password": running.password(),
            }
        },
        "placement": {
            "name": "with-all",
            "folder": running.folder,
            "host": host,
            "resource_pool": "resgroup-9",
            "ha_network_type": "DISTRIBUTED_PORTGROUP",
            "ha_network": "dvportgroup-16",
            "management_network_type": "DISTRIBUTED_PORTGROUP",
            "management_network": "dvportgroup-13",
            "storage": {"datastore": "datastore-17"},
        },
        "ha_ip": ip(f"127.{state.octet}.2.77"),
        "failover_ip": ip(state.public_address),
    }


@pytest.mark.soak
async def test_rest_with_all_fields(running: RunningLab, writer: Writer) -> None:
    """Each requested value takes effect."""
    running.lose_passive()
    spec = all_fields(running)
    task = running.admin.redeploy(spec)
    info = running.admin.finished(task)
    assert info["status"] == "SUCCEEDED", info
    assert info["progress"]["completed"] == info["progress"]["total"]
    assert running.password() not in str(info)
    await assert_repaired(running, "with-all", writer)
    passive = running.role("PASSIVE")
    placement = passive["runtime"]["placement"]
    wished = spec["placement"]
    assert placement["host"] == wished["host"]
    assert placement["ha_network"] == wished["ha_network"]
    assert placement["ha_network_type"] == wished["ha_network_type"]
    assert placement["management_network"] == wished["management_network"]
    assert placement["storage"]["datastore"] == "datastore-17"
    assert passive["ha_ip"]["ipv4"]["address"] == spec["ha_ip"]["ipv4"]["address"]
    assert "datastore-17" in str(running.directory("with-all"))


def paste(running: RunningLab) -> str:
    """Run the README's curl lines unmodified, and return the task's id."""
    block = re.search(r"### With curl\n+```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert block
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.group(1) + '\necho; echo "TASK=$TASK"'],
        env={
            **os.environ,
            "API": running.api,
            "CA": str(running.lab.ca),
            "VCHA_USER": ADMINISTRATOR,
            "PASSWORD": running.password(),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rsplit("TASK=", 1)[1].strip()


@pytest.mark.soak
async def test_curl_as_the_readme_has_it(running: RunningLab, writer: Writer) -> None:
    """The lines of the README, run unmodified."""
    running.lose_passive()
    task = paste(running)
    assert running.admin.finished(task)["status"] == "SUCCEEDED"
    await assert_repaired(running, "passive-2", writer)


@pytest.mark.soak
async def test_legacy_rest(running: RunningLab, writer: Writer) -> None:
    """Old scripts: /rest, wrapped bodies, 200 for everything."""
    running.lose_passive()
    with httpx2.Client(
        base_url=f"{running.api}/rest", verify=trust(running.lab.ca), timeout=120
    ) as http:
        login = http.post("/com/vmware/cis/session", auth=(ADMINISTRATOR, running.password()))
        assert login.status_code == 200
        http.headers["vmware-api-session-id"] = login.json()["value"]
        spec = {"spec": {"placement": {"name": "from-rest", "folder": running.folder}}}
        path = "/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true"
        promised = http.post(path, json=spec)
        assert promised.status_code == 200, promised.text
        assert running.admin.finished(promised.json()["value"])["status"] == "SUCCEEDED"
        found = http.post("/vcenter/vcha/cluster?action=get", json={})
        assert found.json()["value"]["health_state"] == "HEALTHY"
    await assert_repaired(running, "from-rest", writer)


async def test_redeploys_leave_the_witness_no_connection_more(running: RunningLab) -> None:
    """Its etcd is connected only with current nodes; a client's idle pool comes and goes."""
    status = load_status(running.directory(running.name_of("WITNESS")))
    assert status is not None
    (etcd,) = [part.pid for part in status.parts if part.name == "etcd"]
    assert etcd is not None
    voters = {member.name: member for member in await cluster.members(running)}
    peers = {str(httpx2.URL(url).host) for v in voters.values() for url in v.peer_urls}
    found = connections(etcd)
    outside = {one.remote for one in found} - peers - {"127.0.0.1"}
    assert outside == set()
    ports = {httpx2.URL(url).port for v in voters.values() for url in v.peer_urls}
    between = [one for one in found if {one.local_port, one.remote_port} & ports]
    # Each of the two others: two streams and an occasional request, both ways.
    assert len(between) <= 2 * 2 * 4
    assert descriptors(etcd) - len(found) <= OWN_DESCRIPTORS
    assert len(found) - len(between) <= 2 * MAX_IDLE


@pytest.mark.soak
async def test_no_slot_of_a_replaced_node_is_left_also_after_a_failover(
    running: RunningLab, writer: Writer
) -> None:
    """On neither the active, which had it, nor the passive, which may get one."""
    running.lose_passive()
    task = running.admin.redeploy({"placement": {"name": "no-slots", "folder": running.folder}})
    assert running.admin.finished(task)["status"] == "SUCCEEDED"
    await cluster.until_slots_are_of_members(running)
    path = "/vcenter/vcha/cluster?action=failover&vmw-task=true"
    task = running.admin.call("POST", path, {"planned": True}, 202)
    assert running.admin.finished(task)["status"] == "SUCCEEDED"
    running.until(running.healthy)
    assert running.name_of("ACTIVE") == "no-slots"
    assert [cluster.refusals(running, role) for role in ("ACTIVE", "PASSIVE")] == [[], []]
    # Each has the other's slot: the check below is not vacuous.
    assert await cluster.slots(running, "ACTIVE")
    await cluster.until_slots_are_of_members(running)
    assert writer.missing() == set()
