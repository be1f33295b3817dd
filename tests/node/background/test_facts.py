"""A node reports regularly what only it knows, and its report goes away with it."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.node_files import SECRETS, issued_identity, write_files

from openvcha.node.background.facts import (
    LEASE_SECONDS,
    PUBLISH_SECONDS,
    FactsPublisher,
    gather_facts,
)
from openvcha.node.engines import Engines, EtcdProgram, Postgres
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.security.certificates import (
    API_DAYS,
    NODE_DAYS,
    api_certificate,
    new_authorities,
)
from openvcha.node.security.issuing import node_files
from openvcha.store import keys, node_facts
from openvcha.store.errors import StoreUnavailable
from openvcha.store.memory import MemoryStore
from openvcha.store.node_facts import NodeFacts

KEY = keys.node_facts("b-2")
ENGINES = Engines(
    Postgres(Path("/pg"), (15, 4), True, "system"), EtcdProgram(Path("/e"), (3, 4, 23), "system")
)


def make_node(root: Path, *, witness: bool) -> Identity:
    """Write the files of a node as they are before its first start."""
    made = issued_identity("witness" if witness else "data")
    authorities = new_authorities()
    api = None if witness else api_certificate(authorities.service, "127.83.1.10", "host")
    secrets = None if witness else SECRETS
    write_files(root, node_files(made, authorities, secrets=secrets, api=api))
    return made


def days_left(until: datetime) -> int:
    return (until - datetime.now(UTC)).days


def test_a_data_node_tells_everything(tmp_path: Path) -> None:
    """Versions, disk, and the expiry of both certificates."""
    told = gather_facts(make_node(tmp_path, witness=False), Layout(tmp_path), ENGINES)
    assert set(told.versions) == {"openvcha", "etcd", "postgresql", "patroni"}
    assert (told.versions["etcd"], told.versions["postgresql"]) == ("3.4.23", "15.4")
    assert 0 < told.disk_free < told.disk_total
    assert told.api_certificate_until
    assert days_left(told.api_certificate_until) == API_DAYS - 1
    assert days_left(told.certificate_until) == NODE_DAYS - 1


def test_a_witness_tells_what_it_has(tmp_path: Path) -> None:
    """No database, no Patroni, no API."""
    told = gather_facts(make_node(tmp_path, witness=True), Layout(tmp_path), ENGINES)
    assert set(told.versions) == {"openvcha", "etcd"}
    assert told.api_certificate_until is None


def example() -> NodeFacts:
    day = datetime(2030, 1, 1, tzinfo=UTC)
    return NodeFacts(versions={}, disk_free=1, disk_total=2, clock=day, certificate_until=day)


class Quiet:
    """Accepts log lines."""

    def debug(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


async def run_for(seconds: float, store: Any) -> None:
    publisher = FactsPublisher(store, "b-2", example, Quiet())  # type: ignore[arg-type]  # enough of a logger
    running = asyncio.create_task(publisher.run())
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.looptime
async def test_facts_are_there_while_the_node_runs_and_go_after_it() -> None:
    """No process has to clean up after a node that was replaced."""
    store = MemoryStore()
    await run_for(5 * LEASE_SECONDS, store)
    found = await store.get(KEY)
    assert found is not None
    assert found.version >= 5 * LEASE_SECONDS / PUBLISH_SECONDS - 1
    assert node_facts.decode(found.value).clock > datetime(2026, 1, 1, tzinfo=UTC)
    assert node_facts.decode(found.value).clock < example().clock
    await asyncio.sleep(LEASE_SECONDS + 1)
    assert await store.get(KEY) is None


@pytest.mark.looptime
async def test_it_goes_on_after_the_store_was_away_or_has_lost_the_lease() -> None:
    """A lease that expired while it could not be renewed is replaced."""
    store = MemoryStore()
    keep, away = store.lease_keep_alive, 0

    async def keep_alive(lease: int) -> int:
        nonlocal away
        away += 1
        if away == 1:
            raise StoreUnavailable("away")
        if away == 2:
            await store.lease_revoke(lease)
        return await keep(lease)

    store.lease_keep_alive = keep_alive  # type: ignore[method-assign]  # a store with faults
    await run_for(5 * PUBLISH_SECONDS, store)
    assert away > 2
    assert await store.get(KEY) is not None
