"""A node's view of itself: its last role, whether it has contact, which nodes are silent."""

import asyncio
from typing import Any

import pytest
from tests.support.simulated.connectivity import NAMES, ObservedCluster
from typer.testing import CliRunner

from openvcha.cli.main import app
from openvcha.cli.node import commands as command
from openvcha.node.background import connectivity
from openvcha.node.background.isolation import ISOLATED_SECONDS
from openvcha.node.process.process_tree import NodeProcesses
from openvcha.node.process.status import Contact, LocalRole, NodeStatus, OwnView
from openvcha.store import keys

pytestmark = pytest.mark.looptime


async def isolated(cluster: ObservedCluster) -> Any:
    """Observe until the grace period has passed."""
    cluster.reachable = False
    await cluster.observer.observe()
    await asyncio.sleep(ISOLATED_SECONDS)
    return await cluster.observer.observe()


async def test_an_active_without_a_majority_is_isolated_and_names_the_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It still reports its role and since when it is isolated, and recovers by itself."""
    cluster = ObservedCluster(monkeypatch)
    before = await cluster.observer.observe()
    assert (before.role, before.contact, before.writable) == (LocalRole.ACTIVE, "CONNECTED", True)
    cluster.silent = {"second", "third"}
    cluster.patroni = b'{"role": "replica", "state": "running"}'
    seen = await isolated(cluster)
    assert (seen.role, seen.contact, seen.writable) == (LocalRole.ACTIVE, Contact.ISOLATED, False)
    assert seen.waits_for == ("second", "third")
    cluster.reachable = True
    again = await cluster.observer.observe()
    assert (again.contact, again.waits_for) == (Contact.CONNECTED, ())


async def test_while_the_own_member_says_nothing_the_node_is_not_sure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may just be restarting; only when that lasts does the node count as isolated."""
    cluster = ObservedCluster(monkeypatch)
    await cluster.observer.observe()
    cluster.silent = set(NAMES)
    assert (await isolated(cluster)).contact is Contact.CONNECTED
    await asyncio.sleep(connectivity.UNSURE_SECONDS)
    assert (await cluster.observer.observe()).contact is Contact.ISOLATED


async def test_an_election_is_not_yet_being_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only after its grace period."""
    cluster = ObservedCluster(monkeypatch)
    await cluster.observer.observe()
    cluster.reachable = False
    assert (await cluster.observer.observe()).contact is Contact.CONNECTED


async def test_who_was_never_in_touch_is_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power failure all nodes wait for each other: none is isolated from anything yet."""
    cluster = ObservedCluster(monkeypatch)
    assert (await isolated(cluster)).contact is Contact.STARTING


async def test_what_nobody_says_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No leader, no answer from Patroni, and a witness without a database."""
    cluster = ObservedCluster(monkeypatch)
    cluster.leader, cluster.patroni = None, b""
    seen = await cluster.observer.observe()
    assert (seen.role, seen.writable) == (LocalRole.UNKNOWN, None)
    witness = await ObservedCluster(monkeypatch, "witness").observer.observe()
    assert (witness.role, witness.contact) == (LocalRole.WITNESS, Contact.CONNECTED)


async def test_a_patroni_that_says_nothing_new_is_asked_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It publishes its state in the store, which shows when to ask it."""
    cluster = ObservedCluster(monkeypatch)
    await cluster.observer.observe()
    await cluster.observer.observe()
    before = cluster.asked
    cluster.patroni = b'{"role": "replica", "state": "running"}'
    assert (await cluster.observer.observe()).writable is True
    assert cluster.asked == before
    await asyncio.sleep(connectivity.PATRONI_SECONDS)
    assert (await cluster.observer.observe()).writable is False
    assert cluster.asked == before + 1


@pytest.mark.parametrize("change", ["told", "leader"])
async def test_what_patroni_writes_is_heard_of_it_in_the_same_look(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """And afterwards it is not asked again."""
    cluster = ObservedCluster(monkeypatch)
    await cluster.observer.observe()
    await cluster.observer.observe()
    cluster.patroni = b'{"role": "replica", "state": "running"}'
    setattr(cluster, change, {"told": 2, "leader": "second"}[change])
    assert (await cluster.observer.observe()).writable is False
    before = cluster.asked
    await cluster.observer.observe()
    assert cluster.asked == before


@pytest.mark.parametrize("why", ["store", "patroni"])
async def test_while_something_is_silent_patroni_is_asked_each_time(
    monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """The store's record of it may be missing, or be that of a Patroni that hangs."""
    cluster = ObservedCluster(monkeypatch)
    await cluster.observer.observe()
    if why == "store":
        cluster.reachable = False
    else:
        cluster.patroni, cluster.told = b"", 2
    await cluster.observer.observe()
    before = cluster.asked
    for _ in range(3):
        await cluster.observer.observe()
    assert cluster.asked == before + 3


IN_SYNC = b'{"leader": "own", "sync_standby": "second"}'


async def test_while_all_is_well_the_next_look_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it has not: the node may soon have to act alone, or to confirm votes."""
    cluster = ObservedCluster(monkeypatch)
    cluster.sync = IN_SYNC

    async def pause() -> float:
        await cluster.observer.observe()
        return cluster.observer.pause

    assert await pause() == connectivity.CALM_SECONDS
    for name, unusual in (("task", True), ("required_votes", 7), ("paused", True), ("sync", b"")):
        usual = getattr(cluster, name)
        setattr(cluster, name, unusual)
        assert await pause() == connectivity.POLL_SECONDS
        setattr(cluster, name, usual)
    cluster.leader = None
    assert await pause() == connectivity.POLL_SECONDS
    cluster.reachable = False
    assert await pause() == connectivity.SILENT_SECONDS


async def test_who_is_no_longer_in_sync_learns_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not take itself for complete if all others are lost right after that."""
    cluster = ObservedCluster(monkeypatch)
    cluster.leader, cluster.sync = "second", b'{"leader": "second", "sync_standby": "own"}'
    job = asyncio.create_task(connectivity.observe_connectivity(cluster.view))
    await asyncio.sleep(connectivity.CALM_SECONDS / 2)
    assert cluster.shown[-1].in_sync is True
    cluster.sync = b'{"leader": "second", "sync_standby": null}'
    cluster.announced.set()
    await asyncio.sleep(connectivity.SHORTEST_SECONDS)
    assert cluster.shown[-1].in_sync is False
    job.cancel()
    await asyncio.wait([job])


async def test_no_flood_of_changes_makes_a_flood_of_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of the store may write as often as it likes."""
    cluster = ObservedCluster(monkeypatch)
    cluster.sync = IN_SYNC
    job = asyncio.create_task(connectivity.observe_connectivity(cluster.view))
    for _ in range(1000):
        cluster.announced.set()
        await asyncio.sleep(0.001)
    assert cluster.reads <= 1 / connectivity.SHORTEST_SECONDS + 2
    job.cancel()
    await asyncio.wait([job])


async def test_who_is_no_member_any_more_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that was replaced may still reach the others."""
    monkeypatch.setattr("tests.support.simulated.connectivity.NAMES", ("other", "second", "third"))
    assert (await ObservedCluster(monkeypatch).observer.observe()).contact is Contact.STARTING


@pytest.mark.parametrize("role", ["primary", "replica"])
async def test_it_is_kept_whether_the_own_database_accepts_writes(
    monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """A node that holds the leader key may still be a standby, and lack rows."""
    cluster = ObservedCluster(monkeypatch)
    cluster.patroni = b'{"role": "%s", "state": "running"}' % role.encode()
    await cluster.observer.observe()
    known = cluster.observer.known
    assert known
    assert (known.leader, known.primary) == ("own", role == "primary")
    cluster.patroni = b""  # it does not reply once
    await cluster.observer.observe()
    known = cluster.observer.known
    assert known
    assert known.primary is (role == "primary")


async def test_a_record_that_cannot_be_read_stops_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the node is in sync is unknown then; that it must stop its database is not."""
    cluster = ObservedCluster(monkeypatch)
    cluster.leader, cluster.sync = "second", b'{"leader": "second", "sync_standby": "own"}'
    assert (await cluster.observer.observe()).in_sync is True
    cluster.sync = b"no record"
    seen = await cluster.observer.observe()
    assert (seen.contact, seen.in_sync) == (Contact.CONNECTED, None)
    cluster.forged = True
    assert (await cluster.observer.observe()).contact is Contact.CONNECTED
    assert cluster.observer.standing().paused is False


@pytest.mark.parametrize("kind", ["data", "witness"])
async def test_a_record_that_cannot_be_read_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """In the node's own status: while no node leads, there is neither an API nor an event."""
    cluster = ObservedCluster(monkeypatch, kind)
    seen = []
    for failover, sync in ((b"", b""), (b"{}", b"{}"), (b"nonsense", b""), (b"", b"7"), (b"", b"")):
        cluster.failover, cluster.sync = failover, sync
        await cluster.observer.observe()
        seen.append(cluster.observer.unreadable or "")
    if kind == "witness":  # it cannot set anything aside
        assert seen == [""] * 5
        return
    assert [bool(text) for text in seen] == [False, False, True, True, False]
    assert f"set-aside DIRECTORY {keys.PATRONI_FAILOVER}`" in seen[2]
    assert f"set-aside DIRECTORY {keys.PATRONI_SYNC}`" in seen[3]


def test_it_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """`vcha node status` still works on an isolated node."""
    seen = OwnView(
        role=LocalRole.ACTIVE,
        contact=Contact.ISOLATED,
        since="2026-01-01T00:00:00+00:00",
        writable=False,
        waits_for=("second",),
    )
    status = NodeStatus(member="own", kind="data", pid=7, started=1, view=seen)
    monkeypatch.setattr(command, "load_status", lambda _: status)
    monkeypatch.setattr(NodeProcesses, "find", lambda *_: [7])
    result = CliRunner().invoke(app, ["node", "status", str(tmp_path)])
    assert "ISOLATED since 2026-01-01T00:00:00+00:00: ACTIVE, read-only" in result.output
    assert "cannot reach second" in result.output
