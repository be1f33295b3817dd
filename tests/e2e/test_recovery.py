"""What a person does on a node when the cluster cannot recover by itself."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.lab import behind_the_api as cluster
from tests.support.lab.failover_by_hand import unattended
from tests.support.lab.mode import change
from tests.support.lab.nodes import answers_healthy, node_status
from tests.support.lab.recovery import power, wait_patiently
from tests.support.lab.running_lab import RunningLab
from tests.support.lab.writer import Writer

from openvcha.cluster import leader_key, patroni_client
from openvcha.daemon.compose import open_services
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import client_url
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import load_kept
from openvcha.node.local_records.sealed_records import KEPT
from openvcha.node.process.process_tree import find_tree
from openvcha.node.recovery.recovery import FORCE_FLAG, load_outcome
from openvcha.node.recovery.request import load_request
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import Etcd

pytestmark = pytest.mark.engines
SHARED_LAB = "failovers"


def command(action: str, directory: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "openvcha", "node", action, *options, str(directory)]


def node(
    running: RunningLab, action: str, name: str, *options: str, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `vcha node COMMAND DIRECTORY`, with typed input."""
    return subprocess.run(
        command(action, running.directory(name), *options),
        input=typed,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


async def asked(layout: Layout) -> bool:
    return load_request(layout) is not None


async def forced(layout: Layout) -> bool:
    return any(FORCE_FLAG in process.argv for process in find_tree(layout.root))


async def rewritten(layout: Layout) -> bool:
    """Return whether the store has one member and no cluster; the node is killed at this stage."""
    own = client_url(load_identity(layout.root))
    try:
        account = NodeAccount(layout.root)
        async with Etcd([own], layout.client_context, timeout=0.5, account=account) as store:
            return len(await store.members()) == 1 and await store.get(keys.CLUSTER) is None
    except StoreError:
        return await renamed(layout)


async def renamed(layout: Layout) -> bool:
    """Return whether the node needs no other node any more."""
    identity = load_identity(layout.root)
    kept = load_kept(layout, identity)
    return len(identity.etcd_initial_cluster) == 1 and not (kept and kept.others)


async def answered(layout: Layout) -> bool:
    return load_outcome(layout) is not None


async def until_reached(stage: Callable[[Layout], Awaitable[bool]], layout: Layout) -> None:
    async with asyncio.timeout(240):
        while not await stage(layout):  # noqa: ASYNC110 - it is another program's state
            await asyncio.sleep(0.001)


def contact(running: RunningLab, name: str) -> str:
    status = node_status(running, name)["status"]
    return str(status["view"]["contact"]) if status and status["view"] else ""


def deploy_again(running: RunningLab, active: str, first: int) -> None:
    """Deploy two new nodes: the lost ones keep their names and addresses."""
    state = running.lab.state()

    def ip(address: str) -> dict[str, Any]:
        return {"ip_family": "IPV4", "ipv4": {"address": address, "prefix": 24}}

    def new(number: int) -> dict[str, Any]:
        placement = {"name": f"vcha-{number}", "folder": running.folder}
        return {"ha_ip": ip(state.ha_address(number)), "placement": placement}

    spec = {
        "deployment": "AUTO",
        "active": {"ha_ip": ip(load_identity(running.directory(active)).ha_address)},
        "passive": new(first),
        "witness": new(first + 1),
    }
    path = "/vcenter/vcha/cluster?action=deploy&vmw-task=true"
    info = running.admin.finished(running.admin.call("POST", path, spec, 202))
    assert info["status"] == "SUCCEEDED", info
    running.until(running.healthy)


def config_state(running: RunningLab) -> str:
    """Return the state that the API reports, or that no node serves it."""
    try:
        return str(running.admin.cluster(partial=True)["config_state"])
    except (httpx2.TransportError, AssertionError):
        return "away"


def stands_alone(running: RunningLab) -> bool:
    return config_state(running) == "NOTCONFIGURED"


def test_what_makes_no_sense_is_refused_with_its_reason(running: RunningLab) -> None:
    """A witness, a cluster with a quorum, a running primary."""
    active, passive, witness = (running.name_of(r) for r in ("ACTIVE", "PASSIVE", "WITNESS"))
    for action in ("make-standalone", "promote"):
        done = node(running, action, witness, "--yes")
        assert done.returncode == 1
        assert "is a witness" in done.stderr
    done = node(running, "make-standalone", active, "--yes")
    assert (done.returncode, "has a quorum" in done.stderr) == (1, True)
    done = node(running, "promote", active, "--yes")
    assert (done.returncode, "is already the active" in done.stderr) == (1, True)
    done = node(running, "promote", passive, "--yes")
    assert (done.returncode, "accepts writes; use the operation failover" in done.stderr) == (
        1,
        True,
    )
    running.until_healthy()


async def give_the_lead(running: RunningLab, name: str) -> None:
    """Do only what `vcha node promote` does first, as if the command were killed there."""
    async with open_services(running.directory(name)) as services:
        store, member = services.store, services.identity.member
        lives = await leader_key.liveness_key(store, member)
        assert lives
        assert await leader_key.write_leader(store, [], lives, await store.get(keys.PATRONI_SYNC))
        async with asyncio.timeout(240):
            while await patroni_client.leader(store) is not None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.2)


@pytest.mark.soak
def test_a_promotion_that_comes_to_nothing_leaves_the_former_active_its_right(
    running: RunningLab, writer: Writer
) -> None:
    """The passive hangs while the active is lost; promoting it fails, and the active comes back.

    A command killed right after it wrote the leader key leaves nothing behind either.
    """
    active, passive = running.name_of("ACTIVE"), running.name_of("PASSIVE")
    running.until(lambda: len(writer.acknowledged) > 20)
    with unattended(running, passive):
        power(running, active, on=False)
        asyncio.run(give_the_lead(running, passive))
        done = node(running, "promote", passive, "--yes")
        assert done.returncode == 1, done
        assert "Nothing: this node was in sync" in done.stdout
        assert "its own Patroni did not respond" in done.stderr
        power(running, passive, on=False)
    power(running, active, on=True)
    wait_patiently(running, lambda: config_state(running) == "CONFIGURED")
    assert running.name_of("ACTIVE") == active
    before = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > before + 20)
    power(running, passive, on=True)
    running.until(running.healthy)
    assert running.name_of("ACTIVE") == active
    assert writer.missing() == set()


@pytest.mark.soak
def test_a_passive_out_of_sync_is_promoted_by_who_types_its_name(
    running: RunningLab, writer: Writer
) -> None:
    """Patroni refuses, as rows would be lost; the old active becomes the passive."""
    active, passive = running.name_of("ACTIVE"), running.name_of("PASSIVE")
    running.until(lambda: len(writer.acknowledged) > 20)
    early = frozenset(writer.acknowledged)
    power(running, passive, on=False)
    before = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > before + 20)
    writer.stop()
    power(running, active, on=False)
    power(running, passive, on=True)
    wait_patiently(running, lambda: contact(running, passive) == "CONNECTED")
    wrong = node(running, "promote", passive, "--yes", typed="yes\n")
    assert wrong.returncode == 1, wrong
    assert "may be lost" in wrong.stdout
    assert "Every row that was acknowledged after" in wrong.stdout
    assert "name does not match" in wrong.stderr
    # Meanwhile the lost active's leader key may have expired: then there is nothing to override.
    done = node(running, "promote", passive, "--yes", typed=f"{passive}\n")
    assert done.returncode == 0, done
    wait_patiently(running, lambda: config_state(running) == "CONFIGURED")
    assert running.name_of("ACTIVE") == passive
    assert early <= writer.rows()
    power(running, active, on=True)
    wait_patiently(running, lambda: answers_healthy(running), 120)
    assert running.name_of("PASSIVE") == active


@pytest.mark.soak
def test_in_maintenance_the_loss_is_told_though_the_store_names_the_passive(
    running: RunningLab, writer: Writer
) -> None:
    """The active went on alone, which nothing in the store shows: rows are really lost."""
    active, passive = running.name_of("ACTIVE"), running.name_of("PASSIVE")
    running.until(lambda: len(writer.acknowledged) > 20)
    change(running, "MAINTENANCE")
    power(running, passive, on=False)
    early = frozenset(writer.acknowledged)
    # The command knows the active's position from what the active writes to the store each second.
    asyncio.run(cluster.until_told_beyond_now(running))
    assert len(writer.acknowledged) > len(early)
    writer.stop()
    power(running, active, on=False)
    power(running, passive, on=True)
    wait_patiently(running, lambda: contact(running, passive) == "CONNECTED")
    # Its own position is known as soon as its database answers.
    missing = "bytes of write-ahead log are missing"
    wait_patiently(running, lambda: missing in node(running, "promote", passive).stdout)
    refused = node(running, "promote", passive, "--yes", typed="y\n")
    assert (refused.returncode, "name does not match" in refused.stderr) == (1, True), refused
    assert "Nothing" not in refused.stdout
    assert "In the mode MAINTENANCE the active may continue alone" in refused.stdout
    assert missing in refused.stdout
    assert "the leader key until 20" in refused.stdout
    done = node(running, "promote", passive, typed=f"{passive}\n")
    assert done.returncode == 0, done
    wait_patiently(running, lambda: config_state(running) == "CONFIGURED")
    assert writer.missing()
    running.repair("vcha-maintained")
    running.until(running.healthy)


@pytest.mark.soak
async def test_an_active_that_lost_both_others_stands_alone_and_is_deployed_again(
    running: RunningLab, writer: Writer
) -> None:
    """No acknowledged row is lost, and the lost nodes do no harm when they come back."""
    active, lost = (
        running.name_of("ACTIVE"),
        [running.name_of("WITNESS"), running.name_of("PASSIVE")],
    )
    running.until(lambda: len(writer.acknowledged) > 20)
    for name in lost:
        await asyncio.to_thread(power, running, name, on=False)
    wait_patiently(running, lambda: contact(running, active) == "ISOLATED")
    no = node(running, "make-standalone", active, typed="n\n")
    assert (no.returncode, "nothing was changed" in no.stderr) == (1, True)
    assert f"no row that was acknowledged before {active} lost" in no.stdout
    killed = await asyncio.create_subprocess_exec(
        *command("make-standalone", running.directory(active), "--yes"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    await until_reached(asked, running.layout(active))
    killed.kill()
    await killed.wait()
    done = node(running, "make-standalone", active, "--yes")
    assert done.returncode == 0 or "is already stand-alone" in done.stderr, done
    wait_patiently(running, lambda: stands_alone(running))
    before = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > before + 20)
    for name in lost:
        await asyncio.to_thread(power, running, name, on=True)
    deploy_again(running, active, 4)
    assert len(await cluster.members(running)) == 3
    for name in lost:
        parts = node_status(running, name)["status"]["parts"]
        assert {part["state"] for part in parts if part["name"] == "patroni"} <= {"WAITING"}
        await asyncio.to_thread(power, running, name, on=False)
    running.until_healthy()
    assert writer.missing() == set()


@pytest.mark.soak
def test_members_that_came_after_the_node_was_made_forbid_that_it_stands_alone(
    running: RunningLab,
) -> None:
    """Regression: a node that was off knew only its initial peers, and dissolved a healthy cluster.

    The members are asked again when the node starts, which may be long after the command.
    """
    old = running.name_of("ACTIVE")
    directory, layout = running.directory(old), running.layout(old)
    assert len(load_identity(directory).etcd_initial_cluster) == 1
    power(running, old, on=False)
    wait_patiently(running, lambda: config_state(running) == "CONFIGURED")
    others = [running.name_of("ACTIVE"), running.name_of("WITNESS")]
    refused = node(running, "make-standalone", old, "--yes")
    assert refused.returncode == 1, refused
    assert "has a quorum" in refused.stderr
    assert "last in touch with a quorum at" in refused.stdout
    # Without its records of the others it asks the server of the API.
    known = (layout.kept, layout.kept_records / KEPT[keys.CLUSTER], layout.registered)
    aside = [(path, path.rename(path.with_suffix(".aside"))) for path in known if path.exists()]
    blind = node(running, "make-standalone", old, "--yes")
    assert blind.returncode == 1, blind
    assert "the holder of the public address" in blind.stderr, blind
    assert "nothing is known of the cluster" in blind.stdout
    for path, hidden in aside:
        hidden.rename(path)
    for name in others:
        power(running, name, on=False)
    asked = node(running, "make-standalone", old, "--yes")
    assert (asked.returncode, "when it starts" in asked.stdout) == (0, True)
    assert all(name in asked.stdout for name in others)
    for name in others:
        power(running, name, on=True)
    wait_patiently(running, lambda: config_state(running) == "CONFIGURED")
    power(running, old, on=True)
    wait_patiently(running, lambda: answers_healthy(running), 120)
    outcome = load_outcome(layout)
    assert outcome
    assert "has a quorum" in str(outcome.error)
    assert "failed: " in str(node_status(running, old)["status"]["notes"]["recovery"])


@pytest.mark.soak
async def test_a_node_whose_own_store_is_broken_gets_in_by_members_that_came_later(
    running: RunningLab,
) -> None:
    """It serves with the others' store, says what to do, and a redeploy repairs it."""
    old = running.name_of("PASSIVE")
    directory, layout = running.directory(old), running.layout(old)
    assert len(load_identity(directory).etcd_initial_cluster) == 1
    await asyncio.to_thread(power, running, old, on=False)
    for path in (layout.etcd_data / "member").rglob("*"):
        if path.is_file():
            path.write_bytes(b"broken" * 1000)
    await asyncio.to_thread(power, running, old, on=True)

    def told() -> bool:
        status = node_status(running, old)["status"]
        return "Redeploy this node" in str((status or {}).get("notes", {}).get("store"))

    wait_patiently(running, told)
    own = load_identity(directory).member
    async with asyncio.timeout(240):
        while own not in await cluster.sync_names(running):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.2)
    assert contact(running, old) == "CONNECTED"
    # One probe without an answer is no verdict.
    running.until(lambda: not running.healthy())
    running.repair("vcha-repaired")
    running.until(running.healthy)


@pytest.mark.soak
async def test_a_passive_that_lost_both_others_goes_on_with_every_row(
    running: RunningLab, writer: Writer
) -> None:
    """Requested while all are off, done when the node starts, though it is killed at each stage.

    The whole node is killed as soon as a stage is visible; the next start continues.
    """
    passive = running.name_of("PASSIVE")
    running.until(lambda: len(writer.acknowledged) > 20)
    for name in (running.name_of("WITNESS"), running.name_of("ACTIVE"), passive):
        await asyncio.to_thread(power, running, name, on=False)
    done = node(running, "make-standalone", passive, "--yes")
    assert (done.returncode, "when it starts" in done.stdout) == (0, True)
    layout = running.layout(passive)
    for stage in (forced, rewritten, renamed, answered):
        await asyncio.to_thread(power, running, passive, on=True)
        await until_reached(stage, layout)
        os.kill(int(layout.supervisor_pid.read_text()), signal.SIGKILL)
        await asyncio.to_thread(power, running, passive, on=False)
        assert stage is not forced or not await renamed(layout)
    await asyncio.to_thread(power, running, passive, on=True)
    wait_patiently(running, lambda: stands_alone(running))
    before = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > before + 20)
    deploy_again(running, passive, 6)
    assert running.name_of("ACTIVE") == passive
    assert writer.missing() == set()
