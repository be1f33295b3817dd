"""Each mode's effect on the cluster: who takes over, which nodes run, who goes on alone.

Also what each mode allows, in each state that a real cluster can be brought into.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import requests
from com.vmware.vapi.std import errors_client
from com.vmware.vcenter.vcha.cluster_client import Mode
from tests.support.every_state import TABLE
from tests.support.lab import behind_the_api as cluster
from tests.support.lab.mode import MODE, change, enabled
from tests.support.lab.rules import ELSEWHERE, WALK, assert_rules
from tests.support.lab.running_lab import RunningLab, message_ids
from tests.support.lab.writer import Writer
from tests.support.waiting import until_async
from vmware.vapi.vsphere.client import create_vsphere_client

from openvcha.cluster import patroni_client
from openvcha.daemon.compose import open_services
from openvcha.lab.state import ADMINISTRATOR
from openvcha.node.identity import load_identity

pytestmark = pytest.mark.engines
SHARED_LAB = "failovers"
OPERATIONS = "/vcenter/vcha/operations"
SET_MODE = "com.vmware.vcenter.vcha.cluster.mode.set"
LONGER_THAN_A_ROUND = 2  # seconds, in which a paused Patroni observes the cluster once a second
SECONDS = 240.0


def maintained(running: RunningLab) -> None:
    """Begin in MAINTENANCE, HEALTHY, whatever state the last test left."""
    if running.admin.call("GET", MODE) != {"mode": "MAINTENANCE"}:
        enabled(running)
        change(running, "MAINTENANCE")
    running.until(running.healthy)


def writes_on(running: RunningLab, writer: Writer, rows: int = 50) -> None:
    before = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > before + rows)


def postgres_runs(running: RunningLab, name: str) -> bool:
    return (running.layout(name).pgdata / "postmaster.pid").exists()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    await until_async(condition, SECONDS, pause=0.1)


async def outlive_the_leader(running: RunningLab, name: str) -> str:
    """Wait until a node's Patroni has seen the cluster without a leader, and return its role."""
    directory = running.directory(name)
    address = load_identity(directory).ha_address
    async with open_services(directory) as services:
        client = services.patroni
        assert isinstance(client, patroni_client.PatroniClient)

        async def unlocked() -> bool:
            return await patroni_client.leader(services.store) is None

        async def looked() -> bool:
            found = await client._json("GET", address, "/patroni")
            return bool(found["dcs_last_seen"] > seen + LONGER_THAN_A_ROUND)

        await until(unlocked)
        seen = time.time()
        await until(looked)
        assert await unlocked()
        return (await client.node(address)).role


async def test_in_maintenance_nobody_takes_over_from_a_lost_active(
    running: RunningLab, writer: Writer
) -> None:
    """It stays the passive after the leader key expires; the active returns as the active."""
    maintained(running)
    active, passive = running.name_of("ACTIVE"), running.name_of("PASSIVE")
    writes_on(running, writer)
    running.vcha("lab", "kill", "active")
    assert await outlive_the_leader(running, passive) == "replica"
    running.vcha("lab", "up")
    assert running.name_of("ACTIVE") == active
    running.until(running.healthy)
    writes_on(running, writer)
    assert writer.missing() == set()


@pytest.mark.soak
async def test_in_maintenance_the_active_goes_on_when_both_others_are_lost(
    running: RunningLab, writer: Writer
) -> None:
    """It stops waiting for the synchronous standby; in sync again when the others are back."""
    maintained(running)
    active = running.name_of("ACTIVE")
    for role in ("passive", "witness"):
        running.vcha("lab", "kill", role)
    writes_on(running, writer, rows=100)
    running.vcha("lab", "up")
    running.until(running.healthy)
    assert running.name_of("ACTIVE") == active
    change(running, "ENABLED")
    assert len(await cluster.sync_names(running)) == 1
    assert writer.missing() == set()


@pytest.mark.soak
async def test_in_disabled_the_standby_is_down_and_the_active_goes_on_alone(
    running: RunningLab, writer: Writer
) -> None:
    """Through the loss of both others and a cold start; back in ENABLED, no row is missing."""
    enabled(running)
    active, passive = running.name_of("ACTIVE"), running.name_of("PASSIVE")
    writes_on(running, writer)
    usual, writer.longest_gap = writer.longest_gap, 0.0
    change(running, "DISABLED")
    writes_on(running, writer)
    assert writer.longest_gap < max(2.0, 5 * usual), "the standby went before it was let go"
    assert not postgres_runs(running, passive)
    assert await cluster.sync_names(running) == frozenset()
    running.until_healthy()
    for role in ("passive", "witness"):
        running.vcha("lab", "kill", role)
    writes_on(running, writer, rows=100)
    running.vcha("lab", "down")
    running.vcha("lab", "up")
    assert running.name_of("ACTIVE") == active
    assert not postgres_runs(running, passive)
    writes_on(running, writer)
    change(running, "ENABLED")
    running.until_healthy()
    assert len(await cluster.sync_names(running)) == 1
    assert writer.missing() == set()


@pytest.mark.soak
async def test_a_passive_lost_in_disabled_is_replaced(running: RunningLab, writer: Writer) -> None:
    """The new one streams once and is then stopped; refused while the old one is well."""
    enabled(running)
    change(running, "DISABLED")
    body = {"placement": {"name": "in-disabled", "folder": running.folder}}
    assert message_ids(running.admin.redeploy(body, 400)) == ["passive.detached"]
    running.lose_passive()
    info = running.admin.finished(running.admin.redeploy(body))
    assert info["status"] == "SUCCEEDED", info
    running.until(lambda: not postgres_runs(running, "in-disabled"))
    # Its Patroni is silent while PostgreSQL stops: ENABLED is refused until it answers.
    running.until(lambda: SET_MODE not in running.admin.call("GET", OPERATIONS)["disabled"])
    change(running, "ENABLED")
    assert running.name_of("PASSIVE") == "in-disabled"
    assert writer.missing() == set()


def test_the_official_sdk_sets_and_gets_the_mode(running: RunningLab) -> None:
    """Including a refusal, as its exception."""
    enabled(running)
    session = requests.Session()
    session.verify = str(running.lab.ca)
    session.trust_env = False  # REQUESTS_CA_BUNDLE, where it is set, would override verify
    client: Any = create_vsphere_client(
        running.api.removeprefix("https://"),
        username=ADMINISTRATOR,
        password=running.password(),
        session=session,
    )
    mode = client.vcenter.vcha.cluster.Mode
    task = mode.set_task(Mode.ClusterMode.MAINTENANCE)
    assert running.admin.finished(task.get_task_id())["status"] == "SUCCEEDED"
    assert mode.get().mode == Mode.ClusterMode.MAINTENANCE
    with pytest.raises(errors_client.AlreadyInDesiredState):
        mode.set_task(Mode.ClusterMode.MAINTENANCE)
    session.close()


@pytest.mark.soak
def test_what_is_refused_is_refused_with_its_reason(running: RunningLab) -> None:
    """The whole table, in each state and mode of the walk. The last test: it ends the cluster."""
    enabled(running)
    for way, state, mode in WALK:
        for go in way:
            go(running)
        assert_rules(running, state, mode)


def test_every_state_is_walked_through_or_is_known_not_to_be() -> None:
    """A new state in the table needs a step in the walk, or a reason."""
    walked = {(state, mode) for _, state, mode in WALK}
    wanted = {
        (state, mode) for state, rows in TABLE.items() for mode in rows if state not in ELSEWHERE
    }
    assert walked == wanted
