"""A full store, with real engines: what goes on, what waits, and what frees space.

No node can become leader while it is full: the leader key is a write. So a data node frees space by
itself where it can, and a loss in the meantime becomes a failover once there is space.

The default run has a data node free the space of three real members: tests/store/test_space.py.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

import httpx2
import pytest
from tests.support.lab.failover import warnings
from tests.support.lab.recovery import power, wait_patiently
from tests.support.lab.running_lab import RunningLab, lab_up, message_ids, run_vcha, trust
from tests.support.lab.writer import Writer

from openvcha.daemon.compose import open_superuser
from openvcha.lab.state import ADMINISTRATOR
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import client_url
from openvcha.node.identity import load_identity
from openvcha.node.security.tls import NodeTls
from openvcha.store.errors import OutcomeUnknown, StoreError, StoreFull
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import Put
from openvcha.store.space import ENOUGH_PERCENT, percent

pytestmark = [pytest.mark.engines, pytest.mark.soak]
QUOTA = 24 << 20
JUNK = "/junk/"
PIECE = 32 << 10
FILL_SECONDS = 300.0
SURELY_FULL_PERCENT = ENOUGH_PERCENT + 2
STANDBYS = "select application_name from pg_stat_replication where state = 'streaming'"
T = TypeVar("T")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    """Return a separate lab: filling the others' store would take minutes."""
    with lab_up(tmp_path_factory.mktemp("full"), "--store-quota", str(QUOTA)) as lab:
        yield lab


def stored(running: RunningLab, name: str, work: Callable[[Etcd], Awaitable[T]]) -> T:
    """Run a function on the store, as a data node does; its own member is asked."""

    async def connected() -> T:
        layout = running.layout(name)
        account = NodeAccount(layout.root)
        url = client_url(load_identity(layout.root))
        async with Etcd([url], NodeTls(layout), timeout=60, account=account) as etcd:
            return await work(etcd)

    return asyncio.run(connected())


async def fill_with_history(etcd: Etcd) -> None:
    """Write one key until no more writes are accepted: little data, much history."""
    await _fill(etcd, itertools.repeat(f"{JUNK}one"))


async def fill_with_data(etcd: Etcd) -> None:
    """Write keys until no more writes are accepted, at the end in small pieces."""
    size = (await etcd.status(etcd.endpoints[0])).db_size
    while size < QUOTA - (2 << 20):
        pieces = [Put(JUNK + secrets.token_hex(8), secrets.token_bytes(PIECE)) for _ in range(32)]
        await etcd.txn([], pieces)
        size = (await etcd.status(etcd.endpoints[0])).db_size
    await _fill(etcd, (JUNK + secrets.token_hex(8) for _ in itertools.count()), PIECE)


async def _fill(etcd: Etcd, names: Iterable[str], size: int = 1 << 20) -> None:
    async with asyncio.timeout(FILL_SECONDS):
        for name in names:
            try:
                await etcd.put(name, secrets.token_bytes(size))
            except StoreFull:
                return
            except OutcomeUnknown:
                continue  # a busy machine, and a full store is no faster


def fill_for_good(running: RunningLab, name: str) -> None:
    """Leave no space that a command, or a node by itself, could free.

    Keys written one by one take some 5 % less once defragmented: just enough for a node to consider
    it free space, now or after a small deletion. So there is a margin.
    """
    for _ in range(10):
        with contextlib.suppress(StoreError):  # the node frees space in between
            stored(running, name, fill_with_data)
        done = run_vcha(["node", "store", "defragment", str(running.directory(name))], check=False)
        if "still full after compaction" in done.stderr:
            if stored(running, name, percent_in_use) >= SURELY_FULL_PERCENT:
                return
            with contextlib.suppress(StoreError):
                stored(running, name, end_alarm)
    raise AssertionError(done)


async def percent_in_use(etcd: Etcd) -> int:
    return percent((await etcd.status(etcd.endpoints[0])).db_in_use, QUOTA)


async def end_alarm(etcd: Etcd) -> None:
    await etcd.disarm_alarm(await etcd.members_without_space())


def is_full(running: RunningLab, name: str) -> bool:
    """Return whether a node's own member has raised the alarm, which needs no quorum.

    Retry while it does not answer: silence does not mean free space.
    """
    known: list[bool] = []

    async def asked(etcd: Etcd) -> bool:
        with contextlib.suppress(StoreError):
            known.append((await etcd.status(etcd.endpoints[0])).full)
        return bool(known)

    wait_patiently(running, lambda: stored(running, name, asked))
    return known[-1]


def empty(running: RunningLab, name: str) -> None:
    """Delete what fills the store, as a person does; retry during an election."""

    async def emptied(etcd: Etcd) -> bool:
        with contextlib.suppress(StoreError):
            await etcd.delete_prefix(JUNK)
            return not await etcd.prefix(JUNK)
        return False

    wait_patiently(running, lambda: stored(running, name, emptied))


def leads(running: RunningLab, name: str) -> bool:
    """Return whether the API says that a node is the active; False while it does not answer."""
    try:
        return running.name_of("ACTIVE") == name
    except (httpx2.TransportError, AssertionError, StopIteration, KeyError):
        return False


async def takes_writes(etcd: Etcd) -> bool:
    try:
        await etcd.put(f"{JUNK}one", b"")
    except StoreError:
        return False
    return True


def until_mended(running: RunningLab, name: str) -> None:
    wait_patiently(running, lambda: stored(running, name, takes_writes))


def log_in(running: RunningLab) -> httpx2.Response:
    ca, password = running.lab.ca, running.password()
    with httpx2.Client(verify=trust(ca), timeout=120.0) as http:
        return http.post(f"{running.api}/api/session", auth=(ADMINISTRATOR, password))


def streaming(running: RunningLab, active: str) -> set[str]:
    """Return the standbys that stream from the active's PostgreSQL."""
    root = running.directory(active)

    async def asked() -> set[str]:
        identity = load_identity(root)
        async with await open_superuser(identity, root).connect(identity.ha_address) as connection:
            rows = await (await connection.execute(STANDBYS)).fetchall()
        return {name for (name,) in rows}

    return asyncio.run(asked())


def healthy(running: RunningLab) -> bool:
    """Return whether the API reports HEALTHY."""
    try:
        return running.healthy()
    except (httpx2.TransportError, AssertionError):
        return False


def goes_on(running: RunningLab, writer: Writer) -> None:
    """Check that new rows are acknowledged."""
    before = len(writer.acknowledged)
    wait_patiently(running, lambda: len(writer.acknowledged) > before + 20)


def test_history_that_fills_it_is_given_up_by_the_node_itself(
    running: RunningLab, writer: Writer
) -> None:
    """It compacts the history by itself; the database keeps serving."""
    active = running.name_of("ACTIVE")
    stored(running, active, fill_with_history)
    until_mended(running, active)
    assert log_in(running).status_code == 201
    goes_on(running, writer)
    running.until(running.healthy)
    assert writer.missing() == set()


def test_what_is_full_without_history_goes_on_and_says_so(
    running: RunningLab, writer: Writer
) -> None:
    """Sessions read, the database serves, a node that was off rejoins; logins say why they fail."""
    active, passive = running.name_of("ACTIVE"), running.name_of("PASSIVE")
    fill_for_good(running, active)
    running.until(lambda: "store.full" in warnings(running))
    assert running.admin.cluster(partial=True)["health_state"] == "DEGRADED"
    assert is_full(running, passive)
    refused = log_in(running)
    assert (refused.status_code, message_ids(refused.json())) == (503, ["store.is.full"])
    path = "/vcenter/vcha/cluster?action=failover&vmw-task=true"
    assert message_ids(running.admin.call("POST", path, {"planned": True}, 503)) == [
        "store.is.full"
    ]
    goes_on(running, writer)

    member = load_identity(running.directory(passive)).member
    power(running, passive, on=False)
    wait_patiently(running, lambda: member not in streaming(running, active))
    power(running, passive, on=True)
    wait_patiently(running, lambda: member in streaming(running, active))
    assert is_full(running, passive)
    goes_on(running, writer)
    assert running.name_of("ACTIVE") == active


def test_the_passive_takes_over_as_soon_as_there_is_room(
    running: RunningLab, writer: Writer
) -> None:
    """It frees the space itself: a person only deletes what fills the store."""
    active, passive = running.name_of("ACTIVE"), running.name_of("PASSIVE")
    power(running, active, on=False)
    assert is_full(running, passive)
    empty(running, passive)
    wait_patiently(running, lambda: leads(running, passive))
    goes_on(running, writer)
    power(running, active, on=True)
    wait_patiently(running, lambda: healthy(running))
    assert writer.missing() == set()
