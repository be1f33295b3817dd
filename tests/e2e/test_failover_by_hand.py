"""A failover by hand: the roles are swapped, and no row or session is lost."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx2
import psycopg
import pytest
import requests
from tests.support.lab import behind_the_api as cluster
from tests.support.lab.failover_by_hand import PATH, unattended
from tests.support.lab.running_lab import RunningLab, trust
from tests.support.lab.writer import Writer
from vmware.vapi.vsphere.client import create_vsphere_client

from openvcha.cluster import leader_key
from openvcha.lab.state import ADMINISTRATOR
from openvcha.node.identity import load_identity
from openvcha.store import keys
from openvcha.store.interface import present

pytestmark = pytest.mark.engines
SHARED_LAB = "failovers"
HELD_SECONDS = 3.0


@contextmanager
def swapped(running: RunningLab, writer: Writer) -> Iterator[None]:
    """Check that a failover is complete: the same session sees the roles swapped."""
    running.until(running.healthy)
    running.until(lambda: len(writer.acknowledged) > 20)
    before = running.name_of("ACTIVE"), running.name_of("PASSIVE")
    token = running.admin.token
    yield
    running.until(running.healthy)
    assert (running.name_of("PASSIVE"), running.name_of("ACTIVE")) == before
    assert running.admin.http.headers["vmware-api-session-id"] == token
    count = len(writer.acknowledged)
    running.until(lambda: len(writer.acknowledged) > count + 20)
    assert writer.missing() == set()


async def test_planned_with_the_official_sdk(running: RunningLab, writer: Writer) -> None:
    """With the unmodified official SDK; its own session stays valid at the new active, too."""
    session = requests.Session()
    session.verify = str(running.lab.ca)
    session.trust_env = False  # REQUESTS_CA_BUNDLE, where it is set, would override verify
    with swapped(running, writer):
        client = create_vsphere_client(
            running.api.removeprefix("https://"),
            username=ADMINISTRATOR,
            password=running.password(),
            session=session,
        )
        task = client.vcenter.vcha.Cluster.failover_task(planned=True)
        running.admin.finished(task.get_task_id())
        assert task.get_info().status == "SUCCEEDED"
        assert client.vcenter.vcha.Cluster.get().health_state == "HEALTHY"
    session.close()
    await cluster.until_all_members_answer(running, 3)


class OpenSession:
    """A session on one node itself, in the middle of a transaction."""

    def __init__(self, running: RunningLab, name: str) -> None:
        self._connection = psycopg.connect(
            host=load_identity(running.directory(name)).ha_address,
            dbname="app",
            user="app",
            password=running.password("app"),
            sslmode="require",
        )
        self._connection.execute("create table if not exists held (id int)")
        self._connection.commit()
        self._connection.execute("insert into held values (1)")
        self._committing = threading.Thread(target=self._commit)
        self.acknowledged = False

    def commit(self) -> None:
        """Send the commit, without waiting for its answer."""
        self._committing.start()

    def ended(self, seconds: float) -> bool:
        """Return whether the commit is answered or the session ended, within some seconds."""
        self._committing.join(seconds)
        return not self._committing.is_alive()

    def _commit(self) -> None:
        warned = threading.Event()
        self._connection.add_notice_handler(lambda _: warned.set())
        with closing(self._connection):
            try:
                self._connection.commit()
            except psycopg.Error:
                return
            self.acknowledged = not warned.is_set()


async def test_an_open_session_on_the_former_active_cannot_commit(
    running: RunningLab, writer: Writer
) -> None:
    """Even if nothing ends it: the passive acknowledges nothing to a node that does not lead."""
    with swapped(running, writer):
        old, new = running.name_of("ACTIVE"), running.name_of("PASSIVE")
        held = OpenSession(running, old)
        members = [load_identity(running.directory(name)).member for name in (old, new)]
        async with cluster.behind(running) as services:
            with unattended(running, old):
                guard = present(keys.PATRONI_LEADER)
                assert await leader_key.transfer(services.store, guard, *members)
                address = load_identity(running.directory(new)).ha_address
                async with asyncio.timeout(60):
                    while not (await services.patroni.node(address)).primary:  # noqa: ASYNC110 - its state
                        await asyncio.sleep(0.05)
                held.commit()
                assert not held.ended(HELD_SECONDS)
        assert held.ended(60)
        assert not held.acknowledged


def test_forced_with_rest(running: RunningLab, writer: Writer) -> None:
    """It switches at once, and still loses no acknowledged row."""
    with swapped(running, writer):
        task = running.admin.call("POST", PATH, {"planned": False}, 202)
        assert running.admin.finished(task)["status"] == "SUCCEEDED"


@pytest.mark.soak
def test_planned_with_legacy_rest(running: RunningLab, writer: Writer) -> None:
    """Old scripts: /rest, wrapped bodies, 200 for everything; then back to the former active."""
    with (
        swapped(running, writer),
        httpx2.Client(
            base_url=f"{running.api}/rest", verify=trust(running.lab.ca), timeout=120
        ) as http,
    ):
        login = http.post("/com/vmware/cis/session", auth=(ADMINISTRATOR, running.password()))
        http.headers["vmware-api-session-id"] = login.json()["value"]
        promised = http.post(PATH, json={"planned": True})
        assert promised.status_code == 200, promised.text
        assert running.admin.finished(promised.json()["value"])["status"] == "SUCCEEDED"
