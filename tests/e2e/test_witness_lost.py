"""The witness is lost while it leads raft, on a busy machine: the active stays active."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import pytest
from tests.support.lab.behind_the_api import behind
from tests.support.lab.failover import event_names, superuser
from tests.support.lab.recovery import power
from tests.support.lab.running_lab import RunningLab
from tests.support.lab.writer import Writer
from tests.support.waiting import until, until_async

from openvcha.node.identity import load_identity
from openvcha.operations.context import Services
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.interface import Member

pytestmark = [pytest.mark.engines, pytest.mark.soak]
SHARED_LAB = "failovers"
LOSSES = int(os.environ.get("OPENVCHA_LOSSES", "3"))
BUSY_SECONDS = 60
LEAD_SECONDS = 240.0
BURN = """
import os, time
parent, end = os.getppid(), time.monotonic() + float({seconds})
while time.monotonic() < end and os.getppid() == parent:
    for _ in range(100_000): pass
"""
REIGN = """
    select pg_postmaster_start_time()::text, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
"""


@contextmanager
def busy(seconds: float = BUSY_SECONDS) -> Iterator[None]:
    """Use all cores; each burner ends by itself, at the latest with this process."""
    command = [sys.executable, "-c", BURN.format(seconds=seconds)]
    burners = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


async def make_lead(services: Services, name: str) -> list[Member]:
    """Make a member the raft leader, and return all members."""

    async def led() -> list[Member]:
        with suppress(StoreError):  # on a busy machine any of these may be late
            members = await services.store.members()
            places = {member.id: member.client_urls[0] for member in members}
            for wanted in (member for member in members if member.name == name):
                leader = (await services.store.status(places[wanted.id])).leader
                if leader == wanted.id:
                    return members
                if leader in places:
                    await services.store.move_leader(places[leader], wanted.id)
        return []

    return list(await until_async(led, LEAD_SECONDS, pause=0.2))


async def until_another_leads(services: Services, members: list[Member], lost: str) -> None:
    """Wait until the election has ended, as both survivors see it."""
    gone = next(member.id for member in members if member.name == lost)
    async with asyncio.timeout(LEAD_SECONDS):
        for member in members:
            while member.id != gone:
                try:
                    leader = (await services.store.status(member.client_urls[0])).leader
                except StoreError:
                    leader = 0
                if leader not in {0, gone}:
                    break
                await asyncio.sleep(0.05)


def until_heard_after(running: RunningLab, active: str, moment: float) -> None:
    """Wait until the active's Patroni has reached the store after a moment."""
    until(
        lambda: last_heard(running, active) > moment,
        LEAD_SECONDS,
        absent=(httpx2.TransportError,),
    )


def last_heard(running: RunningLab, active: str) -> float:
    """Return when the active's Patroni last reached the store, by its own clock."""
    layout = running.layout(active)
    identity = load_identity(layout.root)
    context = ssl.create_default_context(cafile=layout.ca)
    context.load_cert_chain(layout.certificate, layout.key)
    place = f"https://{identity.ha_address}:{identity.ports.patroni}/patroni"
    return float(json.loads(httpx2.get(place, verify=context, timeout=10).content)["dcs_last_seen"])


def reign(running: RunningLab) -> object:
    """Return the start time and the timeline of the active's PostgreSQL."""
    with superuser(running, "ACTIVE") as connection:
        return connection.execute(REIGN).fetchone()


def interruptions(running: RunningLab) -> list[str]:
    """Return the interruptions reported so far; others use this lab too."""
    return [event for event in event_names(running) if event.startswith("primary.interrupted")]


async def test_an_election_under_load_demotes_nobody(running: RunningLab, writer: Writer) -> None:
    """The leader key and the primary never change, even for a moment; every row is there."""
    active, witness = running.name_of("ACTIVE"), running.name_of("WITNESS")
    member = load_identity(running.directory(witness)).member
    running.until(lambda: len(writer.acknowledged) > 20)
    before = await asyncio.to_thread(reign, running)
    earlier = interruptions(running)
    for _ in range(LOSSES):
        async with behind(running) as services:
            key = await services.store.get(keys.PATRONI_LEADER)
            with busy():
                members = await make_lead(services, member)
                await asyncio.to_thread(power, running, witness, on=False)
                await until_another_leads(services, members, member)
                await asyncio.to_thread(until_heard_after, running, active, time.time() + 1)
            after = await services.store.get(keys.PATRONI_LEADER)
        assert key is not None
        assert after is not None
        assert (after.value, after.create_revision) == (key.value, key.create_revision)
        assert await asyncio.to_thread(reign, running) == before
        await asyncio.to_thread(power, running, witness, on=True)
        running.until(running.healthy)
    assert interruptions(running) == earlier
    assert writer.missing() == set()
