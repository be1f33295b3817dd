"""What etcd, Patroni and PostgreSQL themselves say, bypassing the API."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.lab.running_lab import RunningLab
from tests.support.waiting import until_async

from openvcha.cluster import patroni_client
from openvcha.daemon.compose import open_services, open_superuser
from openvcha.node.engines import find_engines
from openvcha.node.identity import load_identity, load_secrets
from openvcha.node.postgres.own_names import REPLICATION_USER
from openvcha.operations.context import Services
from openvcha.store import keys
from openvcha.store.interface import Member, Membership
from openvcha.store.patroni.state import leader_position

SLOTS = "select slot_name from pg_replication_slots"
TOLD_SECONDS = 60.0
HEALTH_SECONDS = 2.0
ANSWER_SECONDS = 60.0
SLOTS_SECONDS = 60.0
"""Patroni drops a slot in its next round; kept for its time it would stay for minutes."""


@asynccontextmanager
async def behind(running: RunningLab) -> AsyncIterator[Services]:
    """Open the stores with the certificates of the active node."""
    # A single node is active too, and says so.
    active = running.admin.call("POST", "/vcenter/vcha/cluster/active?action=get", {})
    async with open_services(running.directory(active["placement"]["vm_name"])) as services:
        yield services


async def sync_names(running: RunningLab) -> frozenset[str]:
    """Return the members that ``/sync`` names."""
    async with behind(running) as services:
        return (await patroni_client.sync_state(services.store)).standbys


async def members(running: RunningLab) -> list[Member]:
    """Return etcd's members."""
    async with behind(running) as services:
        return await services.store.members()


async def until_all_members_answer(running: RunningLab, number: int) -> None:
    """Wait until etcd has this many members, and each of them answers."""
    async with behind(running) as services:
        await until_all_answer(services.store, number)


async def until_all_answer(store: Membership, number: int) -> None:
    """Do the same with an open store: on a busy machine one that is well may answer late."""
    found: dict[str, bool] = {}

    async def all_answer() -> bool:
        found.clear()
        for member in await store.members():
            found[member.name] = await store.healthy(member.client_urls[0], HEALTH_SECONDS)
        return len(found) == number and all(found.values())

    await until_async(all_answer, ANSWER_SECONDS, seen=lambda: found)


async def until_told_beyond_now(running: RunningLab) -> None:
    """Wait until the active has stored a log position that is ahead of the current one."""
    root = running.directory(running.name_of("ACTIVE"))
    now = await open_superuser(load_identity(root), root).position(load_identity(root).ha_address)
    async with behind(running) as services:

        async def told_beyond() -> bool:
            status = await services.store.get(keys.PATRONI_STATUS)
            told = leader_position(status.value) if status else None
            return told is not None and told > now

        await until_async(told_beyond, TOLD_SECONDS, pause=0.2)


async def slots(running: RunningLab, role: str) -> frozenset[str]:
    """Return the replication slots of a data node's PostgreSQL."""
    root = running.directory(running.name_of(role))
    identity = load_identity(root)
    async with await open_superuser(identity, root).connect(identity.ha_address) as connection:
        rows = await (await connection.execute(SLOTS)).fetchall()
    return frozenset(str(row[0]) for row in rows)


async def until_slots_are_of_members(running: RunningLab) -> None:
    """Wait until neither data node has a slot of a removed node, which would retain WAL."""
    theirs = {member.name.replace("-", "_") for member in await members(running)}
    left: dict[str, frozenset[str]] = {}

    async def none_left() -> bool:
        for role in ("ACTIVE", "PASSIVE"):
            left[role] = await slots(running, role) - theirs
        return not any(left.values())

    await until_async(none_left, SLOTS_SECONDS, seen=lambda: (left, theirs), pause=0.5)


def refusals(running: RunningLab, role: str) -> list[str]:
    """Return the lines a data node's Patroni logged of a store that refuses to list its members."""
    logs = (running.layout(running.name_of(role)).root / "logs").glob("patroni.jsonl*")
    lines = [line for log in logs for line in log.read_text().splitlines()]
    assert any("following a leader" in line or "the leader with the lock" in line for line in lines)
    asked = [line for line in lines if "cannot list the members of the store" in line]
    return [line for line in asked if "denied" in line or "user name" in line]


def verify_checksums(running: RunningLab, name: str) -> None:
    """Verify the checksum of every page of a node's data with PostgreSQL's own tool."""
    layout = running.layout(name)
    identity, passwords = load_identity(layout.root), load_secrets(layout.root)
    program = find_engines().postgres.bin_dir / "pg_basebackup"
    arguments = ["-D", "-", "-F", "tar", "-X", "none", "--checkpoint=fast"]
    done = subprocess.run(
        [str(program), "-h", identity.ha_address, "-U", REPLICATION_USER, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
        env={
            **os.environ,
            "PGPASSWORD": passwords.replication.reveal(),
            "PGSSLMODE": "verify-ca",
            "PGSSLROOTCERT": str(layout.service_ca),
            "PGSSLCERT": str(layout.certificate),
            "PGSSLKEY": str(layout.key),
        },
    )
    assert done.returncode == 0, done.stderr
    assert "checksum" not in done.stderr, done.stderr
