"""A thief with the witness's files writes into the store of a real cluster.

A witness votes: its thief writes into the store what he likes, bypassing the store's own
permissions, as is done here. None of it counts, none of his programs runs, all of it is reported,
and the cluster stays HEALTHY.
"""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support import patroni_commands
from tests.support.lab import behind_the_api as cluster
from tests.support.lab.running_lab import Rest, RunningLab, trust
from tests.support.lab.writer import Writer
from tests.support.simulated.fake_store import posing_as

from openvcha.api.secret import Secret
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.passwords import Passwords
from openvcha.api_server.auth.sessions import SessionRecord, token_hash
from openvcha.api_server.auth.users import User
from openvcha.lab.state import ADMINISTRATOR, READER
from openvcha.node.identity import load_identity
from openvcha.store import keys
from openvcha.store.etcd.client import Etcd
from openvcha.store.records import encode
from openvcha.store.sealing.cluster_store import SealedEtcd

pytestmark = pytest.mark.engines
SHARED_LAB = "repairs"
PASSWORD = "a thief's password"
TOKEN = "ab" * 32
GAP_SECONDS = 2.0
POSING_SECONDS = 16.0
"""Longer than the nodes go without a look at who the members of the store are."""


class Thief:
    """A thief who has the witness, and so a vote; ``store`` asks for no more than that."""

    def __init__(self, store: Etcd, running: RunningLab) -> None:
        self.store = store
        self.running = running

    async def value(self, key: str) -> bytes:
        found = await self.store.get(key)
        assert found is not None
        return found.value

    async def alter(self, key: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change a record, and leave its seal unchanged."""
        line, newline, value = (await self.value(key)).rpartition(b"\n")
        fields = json.loads(value)
        change(fields)
        await self.store.put(key, line + newline + json.dumps(fields).encode())

    def login(self, user: str, password: str) -> int:
        """Log in at the API, and return the HTTP status."""
        with httpx2.Client(verify=trust(self.running.lab.ca), timeout=30.0) as http:
            return http.post(f"{self.running.api}/api/session", auth=(user, password)).status_code

    def ask(self, token: str) -> int:
        headers = {"vmware-api-session-id": token}
        with httpx2.Client(verify=trust(self.running.lab.ca), timeout=30.0) as http:
            place = f"{self.running.api}/api/vcenter/vcha/cluster?action=get"
            return http.post(place, headers=headers, json={"partial": True}).status_code

    def told(self, about: str) -> bool:
        """Return whether an event names a record."""
        events = self.running.admin.call("GET", "/openvcha/events")
        return any(
            event["type"].endswith("warning.raised") and about in json.dumps(event["message"])
            for event in events
        )


@pytest.fixture
async def thief(running: RunningLab) -> AsyncIterator[Thief]:
    async with cluster.behind(running) as services:
        assert isinstance(services.store, SealedEtcd)
        yield Thief(services.store._etcd, running)


def user(name: str) -> User:
    known = Passwords()._hasher.hash(PASSWORD)
    return User(name=name, role=UserRole.ADMINISTRATOR, password_hash=known, generation="g")


async def adds_an_administrator(thief: Thief) -> str:
    await thief.store.put(keys.user("thief"), encode(user("thief")))
    assert thief.login("thief", PASSWORD) == 401
    return keys.user("thief")


async def takes_the_place_of_the_administrator(thief: Thief) -> str:
    """Forge the administrator: the real one is lost, as if deleted; a person adds it again."""
    key = keys.user(ADMINISTRATOR.casefold())
    await thief.store.put(key, encode(user(ADMINISTRATOR)))
    assert thief.login(ADMINISTRATOR, PASSWORD) == 401
    return key


async def raises_a_reader(thief: Thief) -> str:
    key = keys.user(READER.casefold())
    await thief.alter(key, lambda fields: fields.update(role="Administrator"))
    assert thief.login(READER, thief.running.password(READER)) == 401
    return key


async def makes_a_session_up(thief: Thief) -> str:
    now = datetime.now(UTC)
    record = SessionRecord(user=ADMINISTRATOR, generation="g", created=now, last_accessed=now)
    key = keys.session(token_hash(TOKEN).hex())
    await thief.store.put(key, encode(record))
    assert thief.ask(TOKEN) == 401
    return key


async def makes_a_join_token_up(thief: Thief) -> str:
    key = keys.join_token("passive")
    record = {"digest": "0" * 64, "ha_address": "127.1.1.9", "issuer": "thief"}
    await thief.store.put(key, json.dumps({**record, "expires": "9000-01-01T00:00:00Z"}).encode())
    return key


async def changes_the_configuration(thief: Thief) -> str:
    await thief.alter(keys.CLUSTER, lambda fields: fields.update(nodes=[], name="thief"))
    return keys.CLUSTER


async def makes_a_task_up(thief: Thief) -> str:
    tasks = await thief.store.prefix(keys.TASKS)
    _, _, value = tasks[0].value.rpartition(b"\n")
    forged = {**json.loads(value), "id": "forged", "status": "PENDING"}
    forged |= {"operation": "undeploy$task", "service": "com.vmware.vcenter.vcha.cluster"}
    await thief.store.put(keys.task("forged"), json.dumps(forged).encode())
    await thief.store.put(keys.OPERATION, b"forged")
    return keys.task("forged")


async def makes_a_member_up(thief: Thief) -> str:
    key = keys.patroni_member("thief")
    place = "127.0.0.9"
    record = {
        "conn_url": f"postgres://{place}:5432/postgres",
        "api_url": f"https://{place}:8008/patroni",
        "state": "running",
        "role": "replica",
    }
    await thief.store.put(key, json.dumps(record).encode())
    return key


ATTACKS: tuple[Callable[[Thief], Awaitable[str]], ...] = (
    adds_an_administrator,
    raises_a_reader,
    makes_a_session_up,
    makes_a_join_token_up,
    changes_the_configuration,
    makes_a_task_up,
    makes_a_member_up,
)


async def test_forged_records_count_for_nothing(thief: Thief, running: RunningLab) -> None:
    """Each attack itself checks that it failed; here, that all are reported and harm nothing."""
    before = _roles(running)
    forged = [await attack(thief) for attack in ATTACKS]
    for key in forged:
        running.until(partial(thief.told, key))
    running.until_healthy()
    assert _roles(running) == before
    _give_back(running, READER, "ReadOnly")
    for key in {*forged} - {keys.CLUSTER, keys.user(READER.casefold())}:
        await thief.store.delete(key)


def _roles(running: RunningLab) -> list[str]:
    found = running.admin.cluster()
    return [found[name]["runtime"]["role"] for name in ("node1", "node2", "witness")]


async def test_the_administrator_comes_back(thief: Thief, running: RunningLab) -> None:
    """By `vcha user` on a data node; the thief's password is refused."""
    key = await takes_the_place_of_the_administrator(thief)
    _give_back(running, ADMINISTRATOR, "Administrator")
    assert thief.login(ADMINISTRATOR, PASSWORD) == 401
    running.admin.http.close()
    running.admin = Rest(running.api, running.lab.ca, ADMINISTRATOR, running.password())
    running.until(lambda: thief.told(key))


def _give_back(running: RunningLab, name: str, role: str) -> None:
    file = running.base / "password"
    file.write_text(running.password(name))
    running.vcha("user", "add", name, "--role", role, "--password-file", str(file))
    file.unlink()


def open_to_all(folder: Path) -> Path:
    """Let the nodes' account create a file there, so that its absence proves something."""
    folder.chmod(0o777)
    for above in folder.parents[:2]:
        above.chmod(above.stat().st_mode | 0o001)
    return folder


async def test_nothing_of_a_forged_configuration_of_patroni_runs(
    thief: Thief, running: RunningLab, writer: Writer, tmp_path: Path
) -> None:
    """All at once, repeatedly, through a restart of Patroni and a new primary."""
    marker = open_to_all(tmp_path) / "was-here"
    right = json.loads(await thief.value(keys.PATRONI_CONFIG))
    wrong = patroni_commands.settings(str(marker))
    parameters = {**wrong["postgresql"]["parameters"], **right["postgresql"]["parameters"]}
    both = {**wrong, **right, "postgresql": {**wrong["postgresql"], **right["postgresql"]}}
    both["postgresql"]["parameters"] = parameters
    for _ in range(3):
        await thief.store.put(keys.PATRONI_CONFIG, json.dumps(both).encode())
        running.until(lambda: thief.told(keys.PATRONI_CONFIG))
    await thief.store.put(keys.PATRONI_CONFIG, json.dumps(both).encode())
    task = running.admin.call(
        "POST", "/vcenter/vcha/cluster?action=failover&vmw-task=true", {"planned": True}, 202
    )
    await thief.store.put(keys.PATRONI_CONFIG, json.dumps(both).encode())
    assert running.admin.finished(task)["status"] == "SUCCEEDED"
    running.until(running.healthy)
    assert not marker.exists()
    before = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > before + 20)
    assert writer.missing() == set()
    for name in (running.name_of("ACTIVE"), running.name_of("PASSIVE")):
        written = (running.layout(name).pgdata / "postgresql.conf").read_text()
        assert str(marker) not in written
        assert "thief" not in written


async def test_a_deletion_of_everything_makes_no_first_node(
    thief: Thief, running: RunningLab
) -> None:
    """The cluster's configuration and Patroni's are restored as they were."""
    before = running.admin.cluster()
    old = await thief.value(keys.CLUSTER)
    for key in (keys.CLUSTER, keys.PATRONI_CONFIG):
        await thief.store.delete(key)
    for key in (keys.CLUSTER, keys.PATRONI_CONFIG):
        running.until(partial(thief.told, key))
    running.until(running.healthy)
    assert running.admin.cluster()["node1"] == before["node1"]
    assert (await thief.value(keys.CLUSTER)).partition(b"\n")[2] == old.partition(b"\n")[2]


def test_a_witness_has_no_key(running: RunningLab) -> None:
    """Neither its files nor its programs have what seals records."""
    witness = running.directory(running.name_of("WITNESS"))
    secrets = json.loads(
        (running.directory(running.name_of("ACTIVE")) / "secrets.json").read_text()
    )
    key = Secret(secrets["records"]).reveal().encode()
    assert len(key) > 20
    files = [path for path in witness.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if key in path.read_bytes()] == []


@pytest.mark.soak
def test_who_answers_at_its_address_is_shown_nothing(running: RunningLab, writer: Writer) -> None:
    """The real witness is off. He claims to be healthy, and a planned failover succeeds."""
    name = running.name_of("WITNESS")
    layout = running.layout(name)
    place = load_identity(layout.root)
    running.vcha("lab", "kill", "witness")
    try:
        with posing_as(layout, place.ha_address, place.ports.etcd_client) as fake:
            running.until(lambda: any(path.startswith("/health") for path in fake.paths))
            task = running.admin.call(
                "POST",
                "/vcenter/vcha/cluster?action=failover&vmw-task=true",
                {"planned": True},
                202,
            )
            assert running.admin.finished(task)["status"] == "SUCCEEDED"
            before, since = len(writer.acknowledged), time.monotonic()
            running.until(lambda: time.monotonic() - since > POSING_SECONDS)
            assert len(writer.acknowledged) > before
            assert fake.shown == []
    finally:
        running.vcha("lab", "up")
    running.until(running.healthy)
    assert writer.missing() == set()
