"""Secrets tracked through a cluster's whole life: they occur only where they must be."""

import asyncio
import base64
import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.lab import behind_the_api as cluster
from tests.support.lab.running_lab import RunningLab, lab_up, trust
from tests.support.marks import Marks, Sampler, file_leaks

from openvcha.lab.state import ADMINISTRATOR
from openvcha.node.engines import find_etcd
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout
from openvcha.system.thumbprints import thumbprint_sha256

VCHA = "/vcenter/vcha/cluster"
SERVICES = [
    f"com.vmware.vcenter.vcha.cluster{part}" for part in ("", ".passive", ".witness", ".mode")
]
WRONG = "MARK-wrong-password-of-vc_spec-7f3a"
MISPLACED = "MARK-password-in-a-wrong-place-9c1d"
ACCOUNT = "the password of the store's account {}"
OF_ETCD = re.compile(ACCOUNT.format(r"\S+") + r" in /\S+/etcd/member/wal/[\w.-]+")
GUESS = "MARK-wrong-password-of-a-login-4e2b"


class Life:
    """One lab from beginning to end, with all secrets learned and all output seen on the way."""

    def __init__(self, running: RunningLab, sampler: Sampler, base: Path, began: float) -> None:
        self.running = running
        self.sampler = sampler
        self.base = base
        self.began = began
        self.marks = Marks()
        self.said: list[bytes] = []
        self.found: set[str] = set()
        self.etcd = find_etcd()
        for name, mark in {"wrong": WRONG, "misplaced": MISPLACED, "guess": GUESS}.items():
            self.marks.add(name, mark)

    def learn(self) -> None:
        """Learn all secrets that are on the disk now."""
        passwords = json.loads(self.running.lab.passwords_file.read_text())
        for user, password in passwords.items():
            self.marks.add(f"password of {user}", password)
        for name in ("secrets.json", "account.json", "*.key"):
            for path in self.base.rglob(name):
                self.learn_file(path.name, path.read_text())
        for path in self.base.rglob("renewal.json"):
            for name, text in json.loads(path.read_text())["files"].items():
                self.learn_file(Path(name).name, text)
        for user in (self.running.admin, self.running.reader):
            self.marks.add("a session's token", user.token)

    def learn_file(self, name: str, text: str) -> None:
        """Learn the secrets in a file, by its name."""
        if not text.strip():
            return  # an undeploy has emptied the file of a removed node
        if name == "secrets.json":
            for each, secret in json.loads(text).items():
                if isinstance(secret, str) and secret:
                    self.marks.add(f"{each} of PostgreSQL or Patroni", secret)
        elif name == "account.json":
            account = json.loads(text)
            self.marks.add(ACCOUNT.format(account["name"]), account["password"])
        elif name.endswith(".key") and text.startswith("-----BEGIN"):
            self.marks.add_key(f"the key {name}", text.strip())
        elif name.endswith(".key"):
            self.marks.add(f"the key {name}", text.strip())

    async def look(self, where: str) -> None:
        """Search everything that exists now."""
        self.learn()
        tops = [self.base, *self._temporary()]
        found = file_leaks(self.marks, tops, since=self.began)
        found |= {f"{name} in the store" for name in self.marks.found(await self._store())}
        found |= {f"{name} in an answer" for name in self.marks.found(all_answers(self.running))}
        found |= {f"{name} in an error" for name in self.marks.found(b"\n".join(self.said))}
        found |= self.sampler.leaks(self.marks)
        found = {leak for leak in found if not self._written_by_etcd(leak)}
        self.found |= {f"{where}: {leak}" for leak in found}

    def _written_by_etcd(self, leak: str) -> bool:
        """Return whether etcd wrote it, as docs/security.md says of versions that are for labs."""
        return self.etcd.version < (3, 5) and bool(OF_ETCD.fullmatch(leak))

    def _temporary(self) -> list[Path]:
        """Return the files that were added to the folder of temporary files since the beginning."""
        folder = Path(tempfile.gettempdir())
        return [path for path in folder.iterdir() if path.is_file()]

    async def _store(self) -> bytes:
        async with cluster.behind(self.running) as services:
            pairs = await services.store.prefix("/")
        assert pairs
        return b"\n".join(kv.key.encode() + b"=" + kv.value for kv in pairs)

    def send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Send an invalid request, and record the answer."""
        with httpx2.Client(verify=trust(self.running.lab.ca), timeout=30.0) as http:
            reply = http.request(method, f"{self.running.api}{path}", **options)
        self.said.append(reply.content + repr(reply.headers).encode())
        return reply


def all_answers(running: RunningLab) -> bytes:
    """Return all tasks, events and audit records."""
    answers = [
        running.admin.call(
            "POST", "/cis/tasks?action=list", {"filter_spec": {"services": SERVICES}}
        ),
        running.admin.call("GET", "/openvcha/events"),
        running.admin.call("GET", "/openvcha/audit"),
    ]
    assert all(answers)
    return json.dumps(answers).encode()


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    began = time.time()
    with Sampler() as sampler, lab_up(tmp_path) as running:
        yield Life(running, sampler, tmp_path, began)


def vc_spec(running: RunningLab, **changes: Any) -> dict[str, Any]:
    """Name this server itself as the vCenter, with the administrator's password."""
    certificate = running.layout(running.name_of("ACTIVE")).root / "tls" / "api.crt"
    place = {
        "hostname": running.lab.state().public_address,
        "port": 8443,
        "ssl_thumbprint": thumbprint_sha256(certificate.read_bytes()),
        "username": ADMINISTRATOR,
        "password": running.password(),
    }
    return {"active_location": {**place, **changes}}


def send_what_is_wrong(life: Life) -> None:
    """Put secrets in every wrong place of a request; the error must not quote them."""
    running, token = life.running, {"vmware-api-session-id": life.running.admin.token}
    path = f"/api{VCHA}/passive?action=redeploy&vmw-task=true"
    placement = {"name": "x", "folder": running.folder}
    bodies: list[Any] = [
        {"placement": placement, "vc_spec": vc_spec(running, password=WRONG)},
        {"placement": placement, "vc_spec": vc_spec(running, password={"is": MISPLACED})},
        {"placement": placement, "vc_spec": vc_spec(running, pasword=MISPLACED)},
        {"placement": placement, "vc_spec": {**vc_spec(running), "password": MISPLACED}},
        {"placement": placement, "vc_spec": MISPLACED},
    ]
    for body in bodies:
        assert life.send("POST", path, json=body, headers=token).status_code >= 400
    cut = json.dumps(bodies[0])[:-3].encode()
    json_type = {"content-type": "application/json"}
    assert life.send("POST", path, content=cut, headers=token | json_type).status_code == 400
    assert life.send("POST", "/api/session", auth=(ADMINISTRATOR, GUESS)).status_code == 401
    legacy = "/rest/com/vmware/cis/session"
    assert life.send("POST", legacy, auth=(ADMINISTRATOR, GUESS)).status_code == 401
    rpc = {"jsonrpc": "2.0", "id": "1", "method": "invoke", "params": {"password": MISPLACED}}
    life.send("POST", "/api", json=rpc, headers=token)


@pytest.mark.engines
@pytest.mark.soak
async def test_secrets_are_nowhere_but_where_they_must_be(life: Life) -> None:
    """Through deploy, redeploy, failover, undeploy and a manual join, none leaks."""
    running = life.running
    await life.look("deployed")
    send_what_is_wrong(life)

    running.lose_passive()
    spec = {"placement": {"name": "second", "folder": running.folder}, "vc_spec": vc_spec(running)}
    succeeds(running, running.admin.redeploy(spec))
    running.until(running.healthy)
    await life.look("redeployed")

    task = running.admin.call(
        "POST", f"{VCHA}?action=failover&vmw-task=true", {"planned": True}, 202
    )
    succeeds(running, task)
    running.until(running.healthy)
    await life.look("failed over")

    active = running.directory(running.name_of("ACTIVE"))
    body = {"force_delete": False, "vc_spec": vc_spec(running)}
    task = running.admin.call("POST", f"{VCHA}?action=undeploy&vmw-task=true", body, 202)
    succeeds(running, task)
    await life.look("undeployed")

    prepare_by_hand(life, active)
    await life.look("prepared")
    assert life.found == set()

    await plant_one_of_each(life, active)


def succeeds(running: RunningLab, task: str) -> None:
    """Wait for a task's end, and show why it failed."""
    info = running.admin.finished(task)
    assert info["status"] == "SUCCEEDED", info


def prepare_by_hand(life: Life, active: Path) -> None:
    """Prepare a cluster whose nodes a person creates, and request one node's token."""
    running = life.running
    state = running.lab.state()
    body: dict[str, Any] = {"deployment": "MANUAL"}
    addresses = {
        "active": load_identity(active).ha_address,
        "passive": state.ha_address(81),
        "witness": state.ha_address(82),
    }
    for role, address in addresses.items():
        ipv4 = {"address": address, "prefix": 24}
        body[role] = {"ha_ip": {"ip_family": "IPV4", "ipv4": ipv4}}
    task = running.admin.call("POST", f"{VCHA}?action=deploy&vmw-task=true", body, 202)
    succeeds(running, task)
    given = running.vcha("node", "token", "passive")
    life.marks.add("a join token", given.stdout.strip())


async def plant_one_of_each(life: Life, active: Path) -> None:
    """Check that a secret in the log, a process and the store is found: the search can fail."""
    password = life.running.password()
    log = Layout(active).logs / "planted.jsonl"
    log.write_text(json.dumps({"line": base64.b64encode(f"user:{password}".encode()).decode()}))
    process = await asyncio.create_subprocess_exec("sleep", "60", env={"PLANTED": password})
    life.sampler.look()
    process.kill()
    await process.wait()
    async with cluster.behind(life.running) as services:
        await services.store.put("/planted", password.encode())
        life.found.clear()
        await life.look("planted")
        await services.store.delete("/planted")
    where = {leak.partition(" in ")[2] for leak in life.found}
    # Also in etcd's own files, by their names.
    assert where >= {str(log), "a command line or an environment", "the store"}, life.found
