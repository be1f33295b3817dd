"""A thief of a witness answers at its address: no data node shows him an account or trusts him.

Three real etcds run with the command lines of their nodes. The witness's is stopped, and a server
with its certificate takes its place; the store still names it as a member.
"""

import asyncio
import base64
import contextlib
import functools
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.attackers.stolen_witness import started
from tests.support.edge import cheap_passwords
from tests.support.etcd_servers import etcd_binary
from tests.support.node_files import equal_secrets, identity, write_files
from tests.support.simulated.fake_store import FakeStore, posing_as
from tests.support.simulated.observations import ip
from tests.support.waiting import until_async

from openvcha.api.errors import ApiError
from openvcha.api.secret import Secret
from openvcha.api.structures import ClusterMode, ConfigState
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.users import Users
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind, Ports, cluster_record
from openvcha.cluster.membership import ensure_leader
from openvcha.cluster.observing.observer import Observer, endpoint
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.cluster.store_accounts import witness_permissions
from openvcha.node.engines import Postgres
from openvcha.node.etcd.account import NodeAccount, new_account, new_data_account
from openvcha.node.etcd.member import client_url, etcd_argv, known_endpoints
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import MajorityView, configured_nodes, keep, save_kept
from openvcha.node.patroni.config import patroni_config
from openvcha.node.recovery.survey import survey
from openvcha.node.security.certificates import Authorities, api_certificate, new_authority
from openvcha.node.security.issuing import node_files
from openvcha.node.security.tls import NodeTls
from openvcha.node.store_access import sealed_store
from openvcha.store import keys
from openvcha.store.errors import StoreError, StoreUnavailable
from openvcha.store.etcd.client import Etcd
from openvcha.store.etcd.gateway import GatewayRequest
from openvcha.store.sealing.cluster_store import SealedEtcd

pytestmark = pytest.mark.engines
ACTIVE, PASSIVE, WITNESS = "vcha-1-aa", "vcha-2-bb", "vcha-3-cc"
KINDS = {ACTIVE: "data", PASSIVE: "data", WITNESS: "witness"}
START_SECONDS = 60
TURN_SECONDS = 120.0


@dataclass
class Trio:
    """Three nodes, the witness in the thief's hands; ``fake`` is the server in its place."""

    identities: dict[str, Identity]
    layouts: dict[str, Layout]
    processes: "dict[str, subprocess.Popen[bytes]]"
    fake: FakeStore

    @property
    def layout(self) -> Layout:
        return self.layouts[ACTIVE]

    @property
    def own(self) -> Identity:
        return self.identities[ACTIVE]

    @property
    def witness(self) -> str:
        return client_url(self.identities[WITNESS])

    def store(self, **more: Any) -> SealedEtcd:
        """Open the store as a data node's programs do."""
        return opened(self.own, self.layout, **more)

    def silence(self) -> None:
        """Freeze the etcds of the data nodes, so that only the thief answers."""
        for member in (ACTIVE, PASSIVE):
            self.processes[member].send_signal(signal.SIGSTOP)


def opened(own: Identity, layout: Layout, **more: Any) -> SealedEtcd:
    account = NodeAccount(layout.root)
    etcd = Etcd(known_endpoints(own, layout), NodeTls(layout), timeout=4.0, account=account)
    return sealed_store(layout, etcd, **more)


def configuration(identities: dict[str, Identity]) -> ClusterConfig:
    nodes = tuple(
        NodeConfig(
            member=one.member,
            name=one.member,
            kind=NodeKind(one.kind),
            vm="",
            bios_uuid="",
            ha_ip=ip(one.ha_address),
        )
        for one in identities.values()
    )
    return ClusterConfig(
        id="c",
        name="lab",
        state=ConfigState.CONFIGURED,
        deployment="AUTO",
        mode=ClusterMode.ENABLED,
        management=ip("127.83.1.10"),
        ports=Ports(),
        nodes=nodes,
    )


def made(root: Path) -> tuple[dict[str, Identity], dict[str, Layout]]:
    """Write the directories of three nodes."""
    net = f"127.{os.getpid() % 150 + 50}.{os.getpid() // 150 % 250}"
    authorities = Authorities(nodes=new_authority(), service=new_authority())
    account = new_data_account()
    places = {member: f"{net}.{number}" for number, member in enumerate(KINDS, 11)}
    peers = {member: f"https://{place}:2380" for member, place in places.items()}
    identities = {
        member: identity(
            member,
            kind=KINDS[member],
            ha_address=place,
            public_address=place,
            etcd_initial_cluster=peers,
        )
        for member, place in places.items()
    }
    layouts = {}
    for member, one in identities.items():
        own = account if one.holds_data else new_account(member)
        api = api_certificate(authorities.service, one.ha_address, "localhost")
        more: dict[str, Any] = {"secrets": equal_secrets(), "api": api} if one.holds_data else {}
        files = node_files(one, authorities, account=own, **more)
        layouts[member] = write_files(root / member, files)
    return identities, layouts


async def settled(store: SealedEtcd, identities: dict[str, Identity], layout: Layout) -> None:
    """Leave the store in the state after a deployment, with what its node keeps."""
    own = NodeAccount(layout.root)()
    assert own is not None
    async with asyncio.timeout(START_SECONDS):
        while True:
            with contextlib.suppress(StoreError):
                await store.accounts.enable_auth(own)
                break
            await asyncio.sleep(0.1)
    await store.accounts.grant(new_account(WITNESS), witness_permissions(WITNESS))
    await cluster_record(store).create(configuration(identities))
    record = await store.get(keys.CLUSTER)
    assert record is not None
    known = MajorityView(tuple(await store.members()), ACTIVE, frozenset({PASSIVE}))
    nodes = configured_nodes(record.value)
    assert nodes is not None
    made_known = keep(
        identities[ACTIVE], known, nodes, store_id="1", revision=1, seen="", listed=True
    )
    save_kept(layout, made_known)


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    identities, layouts = made(tmp_path)
    binary = Path(etcd_binary("system"))
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for member, one in identities.items():
            argv = etcd_argv(binary, one, layouts[member])
            processes[member] = started(argv, tmp_path / f"{member}.log")
        async with opened(identities[ACTIVE], layouts[ACTIVE], keeps=True) as store:
            await settled(store, identities, layouts[ACTIVE])
        processes[WITNESS].kill()
        processes[WITNESS].wait()
        await elected(identities, layouts)
        place = identities[WITNESS]
        with posing_as(layouts[WITNESS], place.ha_address, place.ports.etcd_client) as fake:
            yield Trio(identities, layouts, processes, fake)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


async def elected(identities: dict[str, Identity], layouts: dict[str, Layout]) -> None:
    """Wait until the data nodes have a leader among them: the witness may have led."""
    async with opened(identities[ACTIVE], layouts[ACTIVE]) as store, asyncio.timeout(START_SECONDS):
        while True:
            with contextlib.suppress(StoreError):
                await store.put("/openvcha/any", b"0")
                return


class NoPatroni:
    """A Patroni that does not answer."""

    async def node(self, address: str) -> Any:
        raise PatroniUnreachable(address)


async def test_he_is_gone_with_his_connections(tmp_path: Path) -> None:
    """Regression: one that a node had kept went on saying that a destroyed witness is healthy."""
    identities, layouts = made(tmp_path)
    place = identities[WITNESS]
    async with opened(identities[ACTIVE], layouts[ACTIVE]) as store:
        with posing_as(layouts[WITNESS], place.ha_address, place.ports.etcd_client):
            assert await store.healthy(client_url(place), 2.0)
        assert not await store.healthy(client_url(place), 2.0)


async def test_our_client_shows_him_nothing(trio: Trio) -> None:
    """For every call, and also for an endpoint that the store's members announce."""
    async with trio.store() as store:
        await store.put("/openvcha/any", b"1")
        assert set(await store.refresh_endpoints()) == {
            client_url(trio.identities[member]) for member in (ACTIVE, PASSIVE)
        }
        assert await store.healthy(trio.witness, 2.0)  # he lies, as a member could
        for asked in (store.status(trio.witness), store.move_leader(trio.witness, 1)):
            with contextlib.suppress(StoreError):
                await asked
        await ensure_leader(store, ACTIVE)
        members = {member.name: member for member in await store.members()}
        with contextlib.suppress(StoreError):
            await store.move_leader(members[WITNESS].client_urls[0], members[ACTIVE].id)
        trio.silence()
        # At once: each asks until its deadline.
        asked_again = (store.get(keys.CLUSTER), store.members(), store.put("/x", b""))
        refused = await asyncio.gather(
            *asked_again, store.refresh_endpoints(), return_exceptions=True
        )
        assert all(isinstance(one, StoreUnavailable) for one in refused), refused
    assert trio.fake.paths  # he was there
    assert trio.fake.shown == []


async def test_a_watch_does_not_turn_to_him(trio: Trio) -> None:
    """It moves on to the next endpoint when its own goes silent, and from there to the first."""
    async with (
        trio.store() as store,
        contextlib.aclosing(store.watch("/openvcha/any", 1)) as changes,
    ):
        assert await store.healthy(trio.witness, TURN_SECONDS)  # he is there
        async with asyncio.timeout(TURN_SECONDS):
            await anext(changes)
        trio.silence()
        tried = [store.endpoints[0]]

        def turned() -> bool:
            if store.endpoints[0] != tried[-1]:
                tried.append(store.endpoints[0])
            return len(tried) > len(store.endpoints)

        following = asyncio.ensure_future(anext(changes))
        try:
            await until_async(turned, TURN_SECONDS, seen=lambda: tried, pause=0.01)
        finally:
            following.cancel()
            await asyncio.wait([following])
    assert set(tried) == {client_url(trio.identities[member]) for member in (ACTIVE, PASSIVE)}
    assert trio.fake.shown == []


async def test_he_answers_no_read(trio: Trio) -> None:
    """He copied the record of a user who was since removed; the record was valid then."""
    async with trio.store() as store:
        users = Users(store, passwords=cheap_passwords())
        await users.add("root", Secret("another password"), UserRole.ADMINISTRATOR)
        await users.add("gone", Secret("an old password"), UserRole.ADMINISTRATOR)
        key = base64.b64encode(keys.user("gone").encode()).decode()
        raw = await store._etcd._gateway.read(GatewayRequest("/v3/kv/range", {"key": key}, dict))
        trio.fake.copied[key] = raw["kvs"][0]
        await users.remove("gone")
        trio.silence()
        with pytest.raises((StoreError, ApiError)) as refused:
            await users.verify("gone", Secret("an old password"))
    assert not isinstance(refused.value, AssertionError)
    assert trio.fake.shown == []


async def test_the_observer_shows_him_nothing(trio: Trio) -> None:
    """It looks at each node every second."""
    async with trio.store() as store:
        config = configuration(trio.identities)
        observer = Observer(store, NoPatroni(), lag_limit=10.0)  # type: ignore[arg-type]  # it is asked for nodes only
        members = {member.name: member for member in await store.members()}
        begun = asyncio.get_running_loop().time()
        for node in config.nodes:
            seen = await observer._node(config, node, members.get(node.member), begun)
            assert seen.etcd_answers
        assert endpoint(config, config.nodes[2]) == trio.witness
    assert any(path.startswith("/health") for path in trio.fake.paths)
    assert trio.fake.shown == []


async def test_the_survey_shows_him_nothing(trio: Trio) -> None:
    """Even where only he answers; like any answer, his forbids standing alone."""
    tls = NodeTls(trio.layout)
    assert (await survey(trio.own, trio.layout, tls, public=False)).quorum is not None
    trio.silence()
    found = await survey(trio.own, trio.layout, tls, public=False)
    assert found.quorum is None
    said = {one.place.address: one.words for one in found.said}
    assert "etcd with a quorum" in said[trio.identities[WITNESS].ha_address]
    assert trio.fake.shown == []


def refuse_to_wait(_: float) -> None:
    """Raise an error instead of waiting: Patroni waits for ever for a store that refuses it."""
    raise AssertionError("Patroni's client could not be made")


def patroni_client(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the real client of Patroni, with the file and patches that a node starts it with."""
    etcd, etcd3 = import_module("patroni.dcs.etcd"), import_module("patroni.dcs.etcd3")
    base = etcd.AbstractEtcdClientWithFailover
    for name in ("_get_machines_list", "_get_machines_cache_from_config"):
        monkeypatch.setattr(base, name, getattr(base, name))  # restored afterwards
    connections = import_module("urllib3.util.connection")
    monkeypatch.setattr(connections, "create_connection", connections.create_connection)
    with contextlib.suppress(ModuleNotFoundError):
        extension = import_module("openvcha.node.patroni.patches.endpoints")
        extension.limit_endpoints(etcd, extension.NodeEndpoints(trio.layout))
    postgres = Postgres(Path("/usr/bin"), (15, 4), source="system", has_tls=True)
    account = NodeAccount(trio.layout.root)()
    hosts = known_endpoints(trio.own, trio.layout)
    passwords = equal_secrets("")
    config = patroni_config(trio.own, passwords, trio.layout, postgres, hosts, account=account)
    section = msgspec.json.decode(config)["etcd3"] | {"retry_timeout": 4}
    store = object.__new__(etcd3.Etcd3)
    store._ttl, store._loop_wait, store._retry = 20, 1, patience()
    with monkeypatch.context() as patch:
        patch.setattr(etcd.time, "sleep", refuse_to_wait)
        return store.get_etcd_client(section, etcd3.PatroniEtcd3Client)


def patience() -> Any:
    """Retry for 4 s."""
    return import_module("patroni.utils").Retry(deadline=4, max_delay=1, max_tries=-1)


def test_the_client_of_patroni_is_the_one_that_is_limited() -> None:
    """Another Patroni may have other methods."""
    etcd = import_module("patroni.dcs.etcd").AbstractEtcdClientWithFailover
    etcd3 = import_module("patroni.dcs.etcd3").PatroniEtcd3Client
    for name in ("_get_machines_list", "_get_machines_cache_from_config"):
        assert getattr(etcd3, name) is getattr(etcd, name)


async def test_patroni_shows_him_nothing(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither after it has asked for the members, nor when no other endpoint answers."""
    client = await asyncio.to_thread(patroni_client, trio, monkeypatch)
    wanted = [client_url(trio.identities[member]) for member in (ACTIVE, PASSIVE)]
    await asyncio.to_thread(client._refresh_machines_cache)
    assert client.machines_cache == wanted
    assert (await asyncio.to_thread(client.range, keys.CLUSTER))["kvs"]
    trio.silence()
    retry = patience()
    with pytest.raises(Exception, match=r".") as failed:
        await asyncio.to_thread(retry, functools.partial(client.range, keys.CLUSTER, retry=retry))
    assert not isinstance(failed.value, AssertionError)
    assert set(client.machines_cache) <= set(wanted)
    assert trio.fake.shown == []
