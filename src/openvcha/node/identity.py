"""A node's identity and secrets: the two files that each of its programs reads first."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret, conceal, reveal
from openvcha.node.engines import EngineDirectories
from openvcha.node.public_interface import PublicInterface
from openvcha.system.files.durable import write_durably

IDENTITY = "node.json"
SECRETS = "secrets.json"
UNMANAGED = "none"
"""The kind of infrastructure that creates no nodes: an administrator makes them all."""
HOSTS = "hosts"
"""The kind that creates them on Linux machines that are reached by SSH."""
MIN_LEADER_TTL = 20
"""Patroni's own minimum."""
MAX_LEADER_TTL = 300
MIN_STUCK_STANDBY = 5.0
MIN_STOPPED_STORE = 3.0
MAX_STOPPED_STORE = 120.0
"""Time for a second attempt before the list of required votes expires (``FRESH_SECONDS``)."""
MIN_REPLICATION_LAG = 1.0
MAX_SECONDS = 3600.0
MAX_API_WORKERS = 16
MAX_DEFAULT_API_WORKERS = 4
CORES_PER_API_WORKER = 2
"""The database, the store and the service need the others."""

Kind = Literal["data", "witness"]
EtcdState = Literal["new", "existing"]


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """TCP ports; all but `api` are on the HA address.

    At `join`, the active node's API accepts new nodes, and nothing else.
    """

    etcd_client: int = 2379
    etcd_peer: int = 2380
    patroni: int = 8008
    postgres: int = 5432
    api: int = 8443
    join: int = 8444


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the API's sessions: idle time, lifetime, and number for each user."""

    idle_minutes: int = 30
    absolute_hours: int = 24
    per_user: int = 32


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The API's processes: ``workers`` serve it, 0 stands for a number that suits the machine."""

    workers: Annotated[int, msgspec.Meta(ge=0, le=MAX_API_WORKERS)] = 0

    def workers_on(self, cores: int) -> int:
        """Return the number of workers on a machine with this many cores."""
        suits = min(MAX_DEFAULT_API_WORKERS, cores // CORES_PER_API_WORKER)
        return self.workers or max(1, suits)


class StoreLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The quota of etcd's database on a data node; a witness has twice that.

    It is the same in ``node.json`` of all nodes.
    """

    quota_bytes: int = 1 << 30


class DatabaseCreation(msgspec.Struct, frozen=True, kw_only=True):
    """How the first node creates its database; it does not count afterwards."""

    locale: str = "C"
    encoding: str = "UTF8"


class Timers(msgspec.Struct, frozen=True, kw_only=True):
    """How many seconds pass before the cluster acts or warns. The nodes of a cluster share them.

    ``leader_ttl``: the leader key outlives its holder; its minimum is Patroni's. Only the cluster's
    creation stores it. ``stuck_standby``: a standby without progress takes a new base backup.
    ``stopped_store``: peers power on the nodes that a running task needs. ``replication_lag``: the
    passive counts as lagging.
    """

    leader_ttl: Annotated[int, msgspec.Meta(ge=MIN_LEADER_TTL, le=MAX_LEADER_TTL)] = 20
    stuck_standby: Annotated[float, msgspec.Meta(ge=MIN_STUCK_STANDBY, le=MAX_SECONDS)] = 30.0
    stopped_store: Annotated[float, msgspec.Meta(ge=MIN_STOPPED_STORE, le=MAX_STOPPED_STORE)] = 5.0
    replication_lag: Annotated[float, msgspec.Meta(ge=MIN_REPLICATION_LAG, le=MAX_SECONDS)] = 10.0

    @property
    def leaderless(self) -> float:
        """Return after how many seconds without a leader the active's peers power it on.

        The key outlives its holder by the ttl, and by 5 s more after an election in etcd.
        """
        return 2.0 * self.leader_ttl


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of a node.

    `member` is unique per incarnation: a rebuilt node never reuses the name of the one it replaces.
    It is also the name in etcd and Patroni. Addresses are bare (no prefix, no port).
    Without `public`, the public address is one that this machine always has, as in a lab.
    `etcd_initial_cluster` maps member names to peer URLs and is used only at the first start.
    With `accepts_old_etcd`, an administrator has accepted what an etcd before 3.5.3 lacks.
    `data_nodes` maps the other data nodes to their HA addresses; it is used until the node has read
    the cluster's configuration. New nodes do not inherit `engines` and `creation`.
    """

    cluster_id: str
    cluster_name: str
    member: str
    kind: Kind
    vm: str
    name: str
    ha_address: str
    public_address: str = ""
    public: PublicInterface | None = None
    ports: Ports = Ports()
    etcd_initial_cluster: dict[str, str]
    data_nodes: dict[str, str] = {}
    etcd_state: EtcdState = "new"
    copy_from_leader: bool = False
    infrastructure: dict[str, Any] = {}
    sessions: SessionLimits = SessionLimits()
    store: StoreLimits = StoreLimits()
    timers: Timers = Timers()
    api: ApiSettings = ApiSettings()
    accepts_old_etcd: bool = False
    engines: EngineDirectories = EngineDirectories()
    creation: DatabaseCreation = DatabaseCreation()

    @property
    def holds_data(self) -> bool:
        """Return whether PostgreSQL runs here."""
        return self.kind == "data"

    @property
    def any_etcd(self) -> bool:
        """Return whether an etcd may run here that is else for labs only."""
        return self.in_lab or self.accepts_old_etcd

    @property
    def in_lab(self) -> bool:
        """Return whether no other machine reaches this node: its HA address is a loopback one."""
        try:
            return ipaddress.ip_address(self.ha_address).is_loopback
        except ValueError:  # a host name
            return False


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """The passwords and keys of a cluster; a witness has none of them.

    ``records`` is the key that seals the records in the store; ``records_before`` remains accepted
    while a rotation reseals them. Only the node that creates the database has ``application``, and
    only for that.
    """

    superuser: Secret
    replication: Secret
    rewind: Secret
    patroni_rest: Secret
    records: Secret
    records_before: Secret | None = None
    application: Secret | None = None


def encode_identity(identity: Identity) -> bytes:
    """Encode an identity as the content of `node.json`.

    Raises msgspec.ValidationError if a node could not read it.
    """
    encoded = msgspec.json.encode(identity)
    msgspec.json.decode(encoded, type=Identity)
    return msgspec.json.format(encoded, indent=2)


def encode_secrets(secrets: Secrets) -> bytes:
    """Encode secrets, in plain text, as the content of `secrets.json`."""
    return msgspec.json.encode(secrets, enc_hook=reveal)


def load_identity(directory: Path) -> Identity:
    """Read a node's identity. Raises OSError or msgspec.DecodeError.

    An empty file raises FileNotFoundError like a missing one: an undeploy empties it.
    """
    data = (directory / IDENTITY).read_bytes()
    if not data:
        raise FileNotFoundError(f"it is no longer a node: its {IDENTITY} was emptied")
    return msgspec.json.decode(data, type=Identity)


def save_identity(directory: Path, identity: Identity) -> None:
    """Replace a node's identity atomically and durably. Raises msgspec.ValidationError."""
    write_durably(directory / IDENTITY, encode_identity(identity))


def load_secrets(directory: Path) -> Secrets:
    """Read a node's secrets. Raises OSError or msgspec.DecodeError."""
    data = (directory / SECRETS).read_bytes()
    return msgspec.json.decode(data, type=Secrets, dec_hook=conceal)


def save_secrets(directory: Path, secrets: Secrets) -> None:
    """Replace a node's secrets; only its owner can read the file."""
    write_durably(directory / SECRETS, encode_secrets(secrets))


def absolute(directory: str | Path) -> Path:
    """Return the canonical path that a node's programs use for its directory."""
    return Path(os.path.realpath(directory))


prepare(__name__)
