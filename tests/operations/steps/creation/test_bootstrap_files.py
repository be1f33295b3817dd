"""A new node's bootstrap files: all that it needs and nothing that it must not have."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.support.node_files import equal_secrets, write_files
from tests.support.simulated.cluster import SimulatedCluster
from tests.support.simulated.observations import ip
from tests.support.simulated.process import Process

from openvcha.api.secret import Secret
from openvcha.api.structures import ConfigState
from openvcha.cluster.config import NodeKind
from openvcha.infrastructure.interface import Placement
from openvcha.node.etcd.account import ACCOUNT, load_account, new_data_account
from openvcha.node.identity import (
    IDENTITY,
    SECRETS,
    ApiSettings,
    Timers,
    load_identity,
)
from openvcha.node.layout import (
    API_CERTIFICATE,
    API_KEY,
    CA_CERTIFICATE,
    CA_KEY,
    NODE_CERTIFICATE,
    NODE_KEY,
    POSTGRES_CERTIFICATE,
    REQUIRED_VOTES,
    SERVICE_CA_CERTIFICATE,
    SERVICE_CA_KEY,
)
from openvcha.node.local_records.required_votes import (
    RequiredVotes,
    decode_required_votes,
    encode_required_votes,
    is_fresh,
    is_list,
)
from openvcha.node.public_interface import PublicInterface
from openvcha.node.security.certificates import (
    api_certificate,
    certified_key,
    new_authorities,
    requested_key,
    signing_request,
)
from openvcha.node.security.issuing import node_files
from openvcha.operations.context import Services
from openvcha.operations.steps.creation.bootstrap_files import joining_files_of
from openvcha.operations.steps.new_node import NewNode
from openvcha.operations.steps.votes.required_votes import initial_required_votes
from openvcha.store import keys

PASSWORD = Secret("never on a witness")
API = ApiSettings(workers=3)
PUBLIC = PublicInterface(interface="eth0", lifetime=4, helper="/run/one.sock")
TIMERS = Timers(leader_ttl=30, stuck_standby=45, stopped_store=7, replication_lag=3)


async def active(directory: Path) -> tuple[SimulatedCluster, Services]:
    world = SimulatedCluster()
    node = await world.found("vcha-1", 1)
    await world.configure(ConfigState.NOTCONFIGURED, node)
    own = world.machine(node.member).identity
    identity = msgspec.structs.replace(own, timers=TIMERS, api=API, public=PUBLIC)
    authorities = new_authorities()
    secrets = equal_secrets(PASSWORD.reveal())
    api = api_certificate(authorities.service, identity.public_address, "localhost")
    account = new_data_account()
    made = node_files(identity, authorities, secrets=secrets, api=api, account=account)
    write_files(directory, {**made, "records/roll.json": b"3\n{}"})
    world.root = directory
    return world, Process(world, identity).services


def new(kind: NodeKind, failover: str | None) -> NewNode:
    place = Placement(
        name="vcha-new",
        folder="group-v3",
        host="host-12",
        resource_pool="resgroup-9",
        datastore="datastore-14",
        ha_network="network-15",
        management_network="network-12",
    )
    return NewNode(
        kind=kind,
        member="vcha-new-1",
        token="t",
        placement=place,
        ha_ip=ip("127.83.2.12"),
        failover_ip=ip(failover) if failover else None,
        vm="vm-99",
    )


async def made(
    directory: Path, node: NewNode, accounts: dict[str, Any] | None = None
) -> dict[str, bytes]:
    """Return a node's files; ``accounts`` receives those that the store has then."""
    source = directory / "active"
    source.mkdir()
    world, services = await active(source)
    own = signing_request("127.83.2.12")
    public_key = requested_key(own.certificate, "127.83.2.12")
    found = await joining_files_of(services, node, public_key)
    if accounts is not None:
        accounts.update(world.store.accounts.known)
    await world.end()
    assert certified_key(found[NODE_CERTIFICATE]) == public_key
    return found


async def test_a_data_node_joins_what_is_there(tmp_path: Path) -> None:
    """It copies from the leader, knows the members, and serves with the same certificate."""
    found = await made(tmp_path, new(NodeKind.DATA, "127.83.1.10"))
    (tmp_path / IDENTITY).write_bytes(found[IDENTITY])
    identity = load_identity(tmp_path)
    assert identity.copy_from_leader
    assert identity.etcd_state == "existing"
    assert set(identity.etcd_initial_cluster) == {"vcha-1-old", "vcha-new-1"}
    assert identity.data_nodes == {"vcha-1-old": "127.83.2.11"}
    assert identity.public_address == "127.83.1.10"
    assert (identity.timers, identity.api) == (TIMERS, API)
    own = (tmp_path / "active" / API_CERTIFICATE).read_bytes()
    assert found[API_CERTIFICATE] == own
    assert found["records/roll.json"] == b"3\n{}"
    load = msgspec.json.decode(found[SECRETS])
    assert load.pop("application") is None
    assert set(load.values()) == {PASSWORD.reveal()}


async def test_another_failover_address_gets_a_certificate_of_its_own(tmp_path: Path) -> None:
    """After a failover clients see a certificate that names the address they asked for."""
    found = await made(tmp_path, new(NodeKind.DATA, "127.83.1.20"))
    own = (tmp_path / "active" / API_CERTIFICATE).read_bytes()
    assert found[API_CERTIFICATE] != own


async def test_a_witness_gets_no_secret(tmp_path: Path) -> None:
    """With a stolen witness nobody can read the data or issue certificates."""
    found = await made(tmp_path, new(NodeKind.WITNESS, None))
    assert SECRETS not in found
    assert "records/roll.json" not in found
    assert not {CA_KEY, SERVICE_CA_KEY} & found.keys()
    assert not any(PASSWORD.reveal().encode() in data for data in found.values())


async def test_a_data_node_asks_the_store_by_the_account_of_all(tmp_path: Path) -> None:
    """So a node that takes over may do what the previous active could."""
    found = await made(tmp_path, new(NodeKind.DATA, "127.83.1.10"))
    assert found[ACCOUNT] == (tmp_path / "active" / ACCOUNT).read_bytes()


async def test_a_witness_asks_the_store_by_an_account_of_its_own(tmp_path: Path) -> None:
    """The store has the account before the witness starts, and lets it write only its own keys."""
    accounts: dict[str, Any] = {}
    found = await made(tmp_path, new(NodeKind.WITNESS, None), accounts)
    (tmp_path / ACCOUNT).write_bytes(found[ACCOUNT])
    account, permissions = accounts["vcha-new-1"]
    assert load_account(tmp_path) == account
    own = [keys.node("vcha-new-1"), keys.required_votes_confirmed("vcha-new-1")]
    assert [one.key for one in permissions if one.write] == own
    assert account.password.reveal() not in (tmp_path / "active" / ACCOUNT).read_text()


async def test_a_node_without_a_vm_gets_nothing(tmp_path: Path) -> None:
    """Its identity would name no VM."""
    with pytest.raises(ValueError, match="no VM"):
        await made(tmp_path, replace(new(NodeKind.DATA, None), vm=None))


@pytest.mark.parametrize("kind", NodeKind)
async def test_no_key_leaves_the_node(tmp_path: Path, kind: NodeKind) -> None:
    """It gets a certificate for its own key, which it never sends; whoever creates the node."""
    found = await made(tmp_path, new(kind, "127.83.1.10" if kind is NodeKind.DATA else None))
    assert NODE_KEY not in found
    files = {IDENTITY, CA_CERTIFICATE, NODE_CERTIFICATE, ACCOUNT}
    data = {SECRETS, CA_KEY, SERVICE_CA_KEY, SERVICE_CA_CERTIFICATE, POSTGRES_CERTIFICATE}
    data |= {API_KEY, API_CERTIFICATE, "records/roll.json"}
    assert found.keys() == (files if kind is NodeKind.WITNESS else files | data)


async def test_it_knows_the_required_votes_before_it_reaches_the_store(tmp_path: Path) -> None:
    """Those that the task has recorded, with the time at which they were read."""
    source = tmp_path / "active"
    source.mkdir()
    world, services = await active(source)
    assert await initial_required_votes(services) == {}
    wanted = RequiredVotes(task="t", active="vcha-1-old", nodes={"vcha-1-old": "vm-42"})
    await world.store.put(keys.REQUIRED_VOTES, encode_required_votes(wanted))
    found = decode_required_votes((await initial_required_votes(services))[REQUIRED_VOTES])
    assert is_list(found, wanted)
    assert is_fresh(found, datetime.now(UTC))
    await world.end()


@pytest.mark.parametrize(
    ("interface", "expected"),
    [
        ("", PUBLIC),
        (
            "mgmt",
            replace(PUBLIC, interface="mgmt", helper="/run/openvcha-address/127.83.1.10.sock"),
        ),
    ],
)
async def test_a_data_node_has_the_public_address_on_its_own_interface(
    tmp_path: Path, interface: str, expected: PublicInterface
) -> None:
    """As its check has found it; one that an administrator makes has what the active has."""
    node = replace(new(NodeKind.DATA, "127.83.1.10"), public_interface=interface)
    found = await made(tmp_path, node)
    (tmp_path / IDENTITY).write_bytes(found[IDENTITY])
    assert load_identity(tmp_path).public == expected
