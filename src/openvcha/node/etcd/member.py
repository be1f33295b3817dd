"""How a node runs its etcd member."""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.endpoints import data_endpoints
from openvcha.node.http import ask
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import load_kept
from openvcha.store.account import AccountSource
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import HEALTH, Etcd
from openvcha.store.http_client import TlsSource
from openvcha.store.space import WITNESS_QUOTAS
from openvcha.system.host_port import url

# etcd's own defaults, for networks of one site: ten lost heartbeats call an election.
HEARTBEAT_MS = 100
ELECTION_MS = 1000
PROBE_SECONDS = 2.0


def client_url(identity: Identity) -> str:
    """Return the URL at which this member serves clients."""
    return url(identity.ha_address, identity.ports.etcd_client)


def peer_url(identity: Identity) -> str:
    """Return the URL at which this member serves its peers."""
    return url(identity.ha_address, identity.ports.etcd_peer)


def etcd_argv(binary: Path, identity: Identity, layout: Layout) -> list[str]:
    """Write the command line of a member; it names no secret."""
    tls = {
        "trusted-ca-file": layout.ca,
        "cert-file": layout.certificate,
        "key-file": layout.key,
    }
    options: dict[str, object] = {
        "name": identity.member,
        "data-dir": layout.etcd_data,
        "listen-client-urls": client_url(identity),
        "advertise-client-urls": client_url(identity),
        "listen-peer-urls": peer_url(identity),
        "initial-advertise-peer-urls": peer_url(identity),
        "initial-cluster": _initial_cluster(identity),
        "initial-cluster-state": identity.etcd_state,
        "initial-cluster-token": identity.cluster_id,
        "client-cert-auth": "true",
        "peer-client-cert-auth": "true",
        **tls,
        **{f"peer-{name}": path for name, path in tls.items()},
        "heartbeat-interval": HEARTBEAT_MS,
        "election-timeout": ELECTION_MS,
        "pre-vote": "true",  # a member that comes back disturbs no sitting leader
        "strict-reconfig-check": "false",  # else the second join waits 5 s for the first
        "experimental-initial-corrupt-check": "true",
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "quota-backend-bytes": _quota(identity),
        # Passwords here have 192 random bits: what makes guessing slow makes nothing safer, and
        # takes half a second of a busy machine for each client that is let in.
        "bcrypt-cost": 4,
        "logger": "zap",
        "log-outputs": "stdout",
    }
    return [str(binary), *(f"--{name}={value}" for name, value in options.items())]


def _quota(identity: Identity) -> int:
    quota = identity.store.quota_bytes
    return quota if identity.holds_data else WITNESS_QUOTAS * quota


def known_endpoints(identity: Identity, layout: Layout) -> list[str]:
    """Return client URLs of the members that this node asks, its own first.

    A data node asks those only that hold data, since it shows them the account of the data nodes.
    Those of its birth count only until a majority has named others: who is none of these was
    removed from the cluster, and must not be believed.
    """
    if identity.holds_data:
        return data_endpoints(identity, layout)
    return list(dict.fromkeys([client_url(identity), *known_members(identity, layout).values()]))


def known_members(identity: Identity, layout: Layout) -> dict[str, str]:
    """Return the client URLs of the members that vote, as this node knows them: strangers' too.

    Whoever votes may have made them up. So nobody is shown an account there.
    """
    kept = load_kept(layout, identity)
    if kept is not None:
        return {
            one.member: one.client_url for one in kept.members if one.member and not one.learner
        }
    return {
        name: client_url_of_peer(peer, identity.ports.etcd_client)
        for name, peer in identity.etcd_initial_cluster.items()
    }


def client_url_of_peer(peer: str, client_port: int) -> str:
    """Turn a peer URL into the client URL of the same member; all members use the same ports."""
    scheme, _, rest = peer.partition("://")
    return f"{scheme}://{rest.rpartition(':')[0]}:{client_port}"


async def answers(endpoint: str, tls: ssl.SSLContext, seconds: float = PROBE_SECONDS) -> bool:
    """Return whether a member says of itself that it is healthy, which needs a quorum."""
    return b'"true"' in (await ask(endpoint, HEALTH, tls, seconds) or b"")


async def wait_until_admitted(
    identity: Identity, layout: Layout, tls: TlsSource, pause: float = 0.05
) -> None:
    """Wait until the store answers and this node belongs to it.

    Its own member may be out of order while the others serve it. But a node that was replaced
    while it was away must not bring its PostgreSQL back: the store no longer knows its name.
    """
    own, *others = known_endpoints(identity, layout)
    account = NodeAccount(layout.root)
    while not (  # noqa: ASYNC110 - it is another program's state
        await answers(own, tls()) or await _is_listed(identity.member, others, tls, account)
    ):
        await asyncio.sleep(pause)


async def _is_listed(
    member: str, endpoints: Sequence[str], tls: TlsSource, account: AccountSource
) -> bool:
    if not endpoints:
        return False
    try:
        async with Etcd(endpoints, tls, account=account) as store:
            return any(known.name == member for known in await store.members())
    except StoreError:
        return False


def _initial_cluster(identity: Identity) -> str:
    members = {**identity.etcd_initial_cluster, identity.member: peer_url(identity)}
    return ",".join(f"{name}={peer}" for name, peer in members.items())
