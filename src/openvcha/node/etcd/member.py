"""A node's etcd member: how it runs, and which members it knows."""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.endpoints import data_endpoints, is_at
from openvcha.node.http import ask
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import load_kept
from openvcha.store.account import AccountSource
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.store.etcd.member_pages import HEALTH, MemberHealth, read_health
from openvcha.store.http.client import TlsSource
from openvcha.store.space import WITNESS_QUOTAS
from openvcha.system.network.host_port import url

HEARTBEAT_MS = 200
"""Most of what an idle member does. etcd requires five heartbeats within the time below."""
ELECTION_MS = 1000
"""etcd's default: a leader that is silent for this long, or up to twice as long, is replaced."""
PROBE_SECONDS = 2.0


def client_url(identity: Identity) -> str:
    """Return the URL at which this member serves clients."""
    return url(identity.ha_address, identity.ports.etcd_client)


def peer_url(identity: Identity) -> str:
    """Return the URL at which this member serves its peers."""
    return url(identity.ha_address, identity.ports.etcd_peer)


def etcd_argv(binary: Path, identity: Identity, layout: Layout) -> list[str]:
    """Return the command line of a member; it contains no secret."""
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
        "pre-vote": "true",  # a member that returns does not disturb the leader
        "strict-reconfig-check": "false",  # otherwise a second addition waits 5 s after the first
        "experimental-initial-corrupt-check": "true",
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "quota-backend-bytes": _quota(identity),
        # Passwords here have 192 random bits: slow hashing makes them no safer, and takes half a
        # second per login on a busy machine.
        "bcrypt-cost": 4,
        "logger": "zap",
        "log-outputs": "stdout",
    }
    return [str(binary), *(f"--{name}={value}" for name, value in options.items())]


def _quota(identity: Identity) -> int:
    quota = identity.store.quota_bytes
    return quota if identity.holds_data else WITNESS_QUOTAS * quota


def known_endpoints(identity: Identity, layout: Layout) -> list[str]:
    """Return the client URLs of the members that this node asks, its own first.

    A data node asks only members that hold data, since it presents the data nodes' account to them.
    The initial members count only until a majority has named others: a member that is not among
    these was removed from the cluster and must not be trusted.
    """
    if identity.holds_data:
        return data_endpoints(identity, layout)
    return list(dict.fromkeys([client_url(identity), *known_members(identity, layout).values()]))


def known_members(identity: Identity, layout: Layout) -> dict[str, str]:
    """Return the client URLs of all voting members by name, as this node knows them.

    Any voter may have forged them, so do not present an account there.
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
    """Return the client URL of the member with a peer URL; all members use the same ports."""
    scheme, _, rest = peer.partition("://")
    return f"{scheme}://{rest.rpartition(':')[0]}:{client_port}"


async def health_of(
    endpoint: str, tls: ssl.SSLContext, seconds: float = PROBE_SECONDS
) -> MemberHealth | None:
    """Return the health that a member reports; None without a reply within ``seconds``."""
    page = await ask(endpoint, HEALTH, tls, seconds)
    return None if page is None else read_health(page)


async def is_healthy(endpoint: str, tls: ssl.SSLContext, seconds: float = PROBE_SECONDS) -> bool:
    """Return whether a member reports that it is healthy, which requires quorum."""
    return await health_of(endpoint, tls, seconds) is MemberHealth.HEALTHY


async def wait_until_admitted(
    identity: Identity, layout: Layout, tls: TlsSource, pause: float = 0.05
) -> None:
    """Wait until the store responds and this node is a member of it.

    Its own member may be down while the others serve the store. But a node that was replaced while
    it was away must not start its PostgreSQL: the store no longer lists its name at its address.
    The name alone proves nothing: any voter may take it.
    """
    own, *others = known_endpoints(identity, layout)
    account = NodeAccount(layout.root)
    while not (  # noqa: ASYNC110 - it is another program's state
        await is_healthy(own, tls()) or await _is_listed(identity, others, tls, account)
    ):
        await asyncio.sleep(pause)


async def _is_listed(
    identity: Identity, endpoints: Sequence[str], tls: TlsSource, account: AccountSource
) -> bool:
    if not endpoints:
        return False
    try:
        async with Etcd(endpoints, tls, account=account) as store:
            return any(
                known.name == identity.member and is_at(known, identity.ha_address)
                for known in await store.members()
            )
    except StoreError:
        return False


def _initial_cluster(identity: Identity) -> str:
    members = {**identity.etcd_initial_cluster, identity.member: peer_url(identity)}
    return ",".join(f"{name}={peer}" for name, peer in members.items())
