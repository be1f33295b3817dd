"""Every event is recorded once, by the leader, whichever process dies meanwhile."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from tests.support.simulated.observations import PRIMARY, STREAMING, ObservationBuilder

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import ClusterMode, EventSeverity, TaskProgress, TaskStatus
from openvcha.cluster.observing.observation import Observation
from openvcha.cluster.preconditions import FAILOVER
from openvcha.daemon.keepers.event_watcher import (
    PENDING_SECONDS,
    POLL_SECONDS,
    EventWatcher,
    sweep_forever,
)
from openvcha.daemon.keepers.task_events import new_task_events
from openvcha.events.log import EventLog, ReportedAt
from openvcha.events.state_diff import EventDraft
from openvcha.node.address.state import HELD, NOBODY
from openvcha.store import keys
from openvcha.store.errors import OutcomeUnknown, StoreUnavailable
from openvcha.store.interface import Action, Compare, TxnResult
from openvcha.store.memory import MemoryStore
from openvcha.store.patroni.state import SyncState
from openvcha.store.records import encode
from openvcha.tasks.record import TaskRecord, error_record

pytestmark = pytest.mark.looptime
TASK = TaskRecord(
    id="t1",
    description=message("passive.redeploy"),
    service="com.vmware.vcenter.vcha.cluster.passive",
    operation="redeploy$task",
    created=datetime(2026, 11, 24, tzinfo=UTC),
    status=TaskStatus.PENDING,
    progress=TaskProgress(total=100, completed=0, message=message("passive.redeploy")),
    cancelable=True,
    may_cancel=True,
    user="u",
)


class UnsteadyStore(MemoryStore):
    """A simulated store that loses answers of transactions, before or after they took effect."""

    def __init__(self) -> None:
        super().__init__()
        self.loses = ""

    async def txn(
        self, compares: Sequence[Compare], success: Sequence[Action], failure: Sequence[Action] = ()
    ) -> TxnResult:
        loses, self.loses = self.loses, ""
        if loses == "before":
            raise OutcomeUnknown("never arrived")
        result = await super().txn(compares, success, failure)
        if loses == "after":
            raise OutcomeUnknown("the answer was lost")
        return result


class WatchedCluster:
    """A cluster and its store; any node may have a watcher."""

    def __init__(self) -> None:
        self.world = ObservationBuilder()
        self.store = UnsteadyStore()
        self.events = EventLog(self.store)

    async def observe(self) -> Observation:
        await asyncio.sleep(0)
        return self.world.seen

    def watcher(self, member: str, *, address: bool = True) -> EventWatcher:
        return EventWatcher(self.store, self.events, member, self.observe, lambda: address)

    async def lead(self, member: str) -> None:
        """Make a node the active, and the other its passive in sync."""
        other = {"a-1": "b-2", "b-2": "a-1"}[member]
        self.world.set(leader=member, sync=SyncState(member, frozenset({other})))
        self.world.node(member, patroni=PRIMARY)
        self.world.node(other, patroni=STREAMING)
        await self.store.put(keys.PATRONI_LEADER, member.encode())

    async def told(self) -> list[str]:
        """Return the events so far: the end of each type, and its node."""
        return [
            " ".join((".".join(event.type.split(".")[-2:]), event.node or "")).strip()
            for event in await self.events.list()
        ]


@pytest.fixture
def cluster() -> WatchedCluster:
    return WatchedCluster()


async def reports(watcher: EventWatcher, times: int = 2) -> None:
    for _ in range(times):
        await watcher.report_changes()


@pytest.mark.parametrize("change", ["etcd_answers", "unsure"])
async def test_after_anything_unusual_the_next_look_comes_soon(
    cluster: WatchedCluster, change: str
) -> None:
    """So a change is told as early as by looks that are always frequent."""
    await cluster.lead("a-1")
    watcher = cluster.watcher("a-1")
    assert [await watcher.report_changes() for _ in range(3)] == [
        PENDING_SECONDS,
        POLL_SECONDS,
        POLL_SECONDS,
    ]
    cluster.world.node("w-3", **{change: change == "unsure"})
    soon = [await watcher.report_changes() for _ in range(3)]
    assert soon[0] == PENDING_SECONDS
    assert soon[2] == (PENDING_SECONDS if change == "unsure" else POLL_SECONDS)


async def test_a_lost_node_is_told_after_the_second_look(cluster: WatchedCluster) -> None:
    """And once, however often it is observed."""
    await cluster.lead("a-1")
    watcher = cluster.watcher("a-1")
    await reports(watcher)
    cluster.world.node("w-3", etcd_answers=False)
    await reports(watcher, 1)
    assert await cluster.told() == []
    await reports(watcher, 5)
    assert await cluster.told() == ["node.left vcha-3", "state.degraded"]


async def test_the_failover_is_told_by_the_successor_and_only_once(cluster: WatchedCluster) -> None:
    """It knows the former active from the store; the old one, thawed, records nothing."""
    await cluster.lead("a-1")
    old = cluster.watcher("a-1")
    await reports(old)
    await cluster.lead("b-2")
    successor = cluster.watcher("b-2")
    await reports(old)
    assert await cluster.told() == []
    await reports(successor, 3)
    await reports(old, 3)
    assert await cluster.told() == ["failover.succeeded vcha-2", "address.taken vcha-2"]


async def test_nobody_in_between_is_no_failover(cluster: WatchedCluster) -> None:
    """The leader key is lost and comes back to the same node."""
    await cluster.lead("a-1")
    watcher = cluster.watcher("a-1")
    await reports(watcher)
    cluster.world.set(leader=None)
    await reports(watcher, 3)
    await cluster.lead("a-1")
    await reports(watcher, 3)
    assert "failover.succeeded vcha-1" not in await cluster.told()


async def test_a_demotion_between_two_looks_is_told(cluster: WatchedCluster) -> None:
    """The same node leads before and after, its key never expired, and it answered each time."""
    await cluster.lead("a-1")
    watcher = cluster.watcher("a-1")
    await reports(watcher)
    cluster.world.node("a-1", patroni=replace(PRIMARY, timeline=2, started="later"))
    await reports(watcher, 4)
    assert await cluster.told() == ["primary.interrupted vcha-1"]


async def test_a_primary_that_nobody_could_ask_is_told_when_it_is_back(
    cluster: WatchedCluster,
) -> None:
    """However long it took, and even by a restarted process."""
    await cluster.lead("a-1")
    await reports(cluster.watcher("a-1"))
    watcher = cluster.watcher("a-1")
    cluster.world.node("a-1", patroni=replace(STREAMING, state="starting"))
    await reports(watcher, 3)
    cluster.world.node("a-1", patroni=replace(PRIMARY, timeline=2, started="later"))
    await reports(watcher, 3)
    assert (await cluster.told()).count("primary.interrupted vcha-1") == 1


async def test_a_failover_is_no_interruption_of_its_primary(cluster: WatchedCluster) -> None:
    """The successor's term begins after it leads, and is not the former leader's."""
    await cluster.lead("a-1")
    await reports(cluster.watcher("a-1"))
    await cluster.lead("b-2")
    cluster.world.node("b-2", patroni=STREAMING)
    watcher = cluster.watcher("b-2")
    await reports(watcher, 3)
    cluster.world.node("b-2", patroni=replace(PRIMARY, timeline=2, started="later"))
    await reports(watcher, 3)
    assert "primary.interrupted vcha-2" not in await cluster.told()


async def test_the_address_is_told_when_it_is_taken(cluster: WatchedCluster) -> None:
    """Not with the failover, as a frozen node may hold it for a while."""
    await cluster.lead("a-1")
    await reports(cluster.watcher("a-1"))
    await cluster.lead("b-2")
    await reports(cluster.watcher("b-2", address=False))
    assert await cluster.told() == ["failover.succeeded vcha-2"]
    await reports(cluster.watcher("b-2"))
    assert await cluster.told() == ["failover.succeeded vcha-2", "address.taken vcha-2"]


@pytest.mark.parametrize("seed", range(20))
async def test_every_change_is_told_once_whatever_dies(cluster: WatchedCluster, seed: int) -> None:
    """A walk of losses, takeovers and modes, with lost answers and restarted processes."""
    chance = random.Random(seed)
    leader, expected = "a-1", []
    up, mode = True, ClusterMode.ENABLED
    await cluster.lead(leader)
    watcher = cluster.watcher(leader)
    await reports(watcher)
    for _ in range(30):
        match chance.choice(["witness", "failover", "mode", "nothing"]):
            case "witness":
                up = not up
                cluster.world.node("w-3", etcd_answers=up)
                expected += [f"node.{'joined' if up else 'left'} vcha-3"]
            case "failover":
                leader = "b-2" if leader == "a-1" else "a-1"
                await cluster.lead(leader)
                expected += [f"failover.succeeded vcha-{'1' if leader == 'a-1' else '2'}"]
                watcher = cluster.watcher(leader)
            case "mode":
                mode = chance.choice([each for each in ClusterMode if each is not mode])
                cluster.world.configure(mode=mode)
                expected += ["mode.changed"]
        for _ in range(2):
            cluster.store.loses = chance.choice(["", "before", "after"])
            try:
                await reports(watcher)
            except OutcomeUnknown:
                watcher = cluster.watcher(leader)
        cluster.store.loses = ""
        await reports(watcher)
    kinds = {line.split()[0] for line in expected}
    assert [line for line in await cluster.told() if line.split()[0] in kinds] == expected


async def put(cluster: WatchedCluster, **changes: Any) -> None:
    record = msgspec.structs.replace(TASK, **changes)
    await cluster.store.put(keys.task(record.id), encode(record))


async def running(cluster: WatchedCluster, seconds: float) -> None:
    """Run a process of the active for this long."""
    process = asyncio.create_task(cluster.watcher("a-1").run())
    await asyncio.sleep(seconds)
    process.cancel()
    await asyncio.wait([process])


async def test_tasks_are_told_when_they_begin_and_end(cluster: WatchedCluster) -> None:
    """Also those that began or ended unobserved, and each once."""
    await cluster.lead("a-1")
    await put(cluster)
    await running(cluster, 3)
    await put(cluster, status=TaskStatus.RUNNING)
    await running(cluster, 3)
    await put(cluster, status=TaskStatus.SUCCEEDED)
    await put(cluster, id="t2")
    await running(cluster, 3)
    async with asyncio.TaskGroup() as group:
        group.create_task(running(cluster, 10))
        await asyncio.sleep(1)
        await put(cluster, id="t3")
        await put(cluster, id="t3", status=TaskStatus.RUNNING)
        await put(cluster, id="t3", status=TaskStatus.FAILED)
        await put(cluster, id="t2", status=TaskStatus.FAILED)
    found = [(event.type.rsplit(".", 1)[-1], event.task) for event in await cluster.events.list()]
    assert found == [
        ("started", "t1"),
        ("succeeded", "t1"),
        ("started", "t2"),
        ("started", "t3"),
        ("failed", "t3"),
        ("failed", "t2"),
    ]


async def test_a_success_that_left_a_vm_is_a_warning(cluster: WatchedCluster) -> None:
    """Its event names the VM; the type is that of any success."""
    await cluster.lead("a-1")
    await put(cluster)
    await running(cluster, 3)
    left = message("commit.left", "vcha-2", "vm-43", "It is busy.")
    await put(cluster, status=TaskStatus.SUCCEEDED, leftovers=(left,))
    await running(cluster, 3)
    event = (await cluster.events.list())[-1]
    assert (event.type, event.severity) == (
        "org.openvcha.operation.succeeded",
        EventSeverity.WARNING,
    )
    assert "vcha-2 (vm-43)" in event.message.default_message


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("failover.mode.disabled", "com.vmware.vcha.failover.failed.disabled.mode"),
        ("failover.node.lost", "com.vmware.vcha.failover.failed.node.lost"),
        ("failover.passive.not.ready", "com.vmware.vcha.failover.failed.passive.not.ready"),
        ("no.active", "org.openvcha.operation.failed"),
    ],
)
async def test_a_failover_that_fails_has_its_own_event(
    cluster: WatchedCluster, reason: str, kind: str
) -> None:
    """By the reason for which it failed."""
    service, _, name = FAILOVER.rpartition(".")
    error = error_record(ApiError(ErrorType.ERROR, message(reason)))
    named = {"service": service, "operation": f"{name}$task"}
    await put(cluster, **named)
    await put(cluster, **named, status=TaskStatus.FAILED, error=error)
    news = new_task_events(await cluster.store.prefix(keys.TASKS), 0)
    assert [each.draft.type for each in news] == ["org.openvcha.operation.started", kind]


async def test_rubbish_among_the_tasks_is_passed_over(cluster: WatchedCluster) -> None:
    """A later version's record must not keep the others from being reported."""
    await cluster.store.put(keys.task("t0"), b"rubbish")
    await put(cluster)
    assert len(new_task_events(await cluster.store.prefix(keys.TASKS), 0)) == 1


async def test_it_goes_on_after_the_store_was_away(
    cluster: WatchedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happened meanwhile is reported then."""
    await cluster.lead("a-1")
    await reports(cluster.watcher("a-1"))

    async def away(_: str) -> None:
        raise StoreUnavailable("away")

    async with asyncio.TaskGroup() as group:
        group.create_task(running(cluster, 20 * POLL_SECONDS))
        with monkeypatch.context() as patch:
            patch.setattr(cluster.store, "get", away)
            cluster.world.node("w-3", etcd_answers=False)
            await asyncio.sleep(5 * POLL_SECONDS)
    assert "node.left vcha-3" in await cluster.told()


async def test_while_nothing_changes_what_was_reported_is_read_once(
    cluster: WatchedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again once somebody may have written: this watcher, or another program."""
    await cluster.lead("a-1")
    read = cluster.events.last_reported
    reads = []

    async def counted() -> ReportedAt:
        reads.append(await read())
        return reads[-1]

    watcher = cluster.watcher("a-1")
    await reports(watcher, 4)
    monkeypatch.setattr(cluster.events, "last_reported", counted)
    await reports(watcher, 4)
    assert reads == []
    monkeypatch.undo()
    draft = EventDraft(type="org.openvcha.x", severity=EventSeverity.INFO, message=TASK.description)
    await cluster.events.add(draft)
    assert await cluster.told() == ["openvcha.x"]
    cluster.world.node("w-3", etcd_answers=False)
    await reports(watcher, 4)
    assert await cluster.told() == ["openvcha.x", "node.left vcha-3", "state.degraded"]


async def test_sweeping_goes_on_whatever_fails() -> None:
    """A store outage does not end it."""
    swept: list[str] = []

    async def broken() -> int:
        raise StoreUnavailable("away")

    async def sound() -> int:
        swept.append("x")
        return 1

    sweeping = asyncio.create_task(sweep_forever(broken, sound))
    await asyncio.sleep(3 * 3600 + 1)
    sweeping.cancel()
    await asyncio.wait([sweeping])
    assert len(swept) == 4


async def test_an_address_that_nobody_holds_is_told_and_its_end_too(
    cluster: WatchedCluster,
) -> None:
    """Clients cannot connect, whatever else is well."""
    await cluster.lead("a-1")
    watcher = cluster.watcher("a-1", address=False)
    await reports(watcher)
    cluster.world.hear("a-1", address=NOBODY)
    await reports(watcher)
    assert await cluster.told() == ["state.degraded", "warning.raised"]
    (raised,) = (e for e in await cluster.events.list() if e.type.endswith("warning.raised"))
    assert "Nobody holds the public address 127.83.1.10" in raised.message.default_message
    cluster.world.hear("a-1", address=HELD)
    await reports(watcher)
    assert (await cluster.told())[2:] == ["state.healthy", "warning.cleared"]
