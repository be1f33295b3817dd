"""Who a node is: the two files that every program of a node reads first."""

import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.system.durable import write_durably

IDENTITY = "node.json"
SECRETS = "secrets.json"

Kind = Literal["data", "witness"]
EtcdState = Literal["new", "existing"]


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """TCP ports; all but `api` are on the HA address."""

    etcd_client: int = 2379
    etcd_peer: int = 2380
    patroni: int = 8008
    postgres: int = 5432
    api: int = 8443


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a session of the API lives without a request, and at most; how many a user has."""

    idle_minutes: int = 30
    absolute_hours: int = 24
    per_user: int = 32


class StoreLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How large etcd's database may be on a data node; a witness has twice that.

    The same in ``node.json`` of all nodes.
    """

    quota_bytes: int = 1 << 30


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What makes this node this node.

    `member` is unique per incarnation: a rebuilt node never has the name of the one it replaces.
    It is the etcd name and the Patroni name too. Addresses are bare (no prefix, no port).
    `etcd_initial_cluster` maps member names to peer URLs and counts only at the first start.
    `data_nodes` maps the others that hold data to their HA addresses; it counts until the node has
    read the cluster's configuration.
    """

    cluster_id: str
    cluster_name: str
    member: str
    kind: Kind
    vm: str
    name: str
    ha_address: str
    public_address: str = ""
    ports: Ports = Ports()
    etcd_initial_cluster: dict[str, str]
    data_nodes: dict[str, str] = {}
    etcd_state: EtcdState = "new"
    copy_from_leader: bool = False
    infrastructure: dict[str, Any] = {}
    sessions: SessionLimits = SessionLimits()
    store: StoreLimits = StoreLimits()

    @property
    def holds_data(self) -> bool:
        """Whether PostgreSQL runs here."""
        return self.kind == "data"


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """The passwords and keys of a cluster; a witness has none of them.

    ``records`` is the key that seals the records in the store; ``records_before`` is accepted
    still, while a renewal seals them anew. Only the node that makes the database has
    ``application``, for that one time.
    """

    superuser: Secret
    replication: Secret
    rewind: Secret
    patroni_rest: Secret
    records: Secret
    records_before: Secret | None = None
    application: Secret | None = None


def encode_identity(identity: Identity) -> bytes:
    """Write an identity as the bytes of `node.json`."""
    return msgspec.json.format(msgspec.json.encode(identity), indent=2)


def encode_secrets(secrets: Secrets) -> bytes:
    """Write secrets, in the clear, as the bytes of `secrets.json`."""
    return msgspec.json.encode(secrets, enc_hook=reveal)


def load_identity(directory: Path) -> Identity:
    """Read a node's identity; raises OSError or msgspec.DecodeError.

    An emptied one is FileNotFoundError like a missing one: an undeploy leaves it so.
    """
    data = (directory / IDENTITY).read_bytes()
    if not data:
        raise FileNotFoundError(f"it is no longer a node: its {IDENTITY} was emptied")
    return msgspec.json.decode(data, type=Identity)


def save_identity(directory: Path, identity: Identity) -> None:
    """Replace a node's identity so that a crash leaves the old one or the new one."""
    write_durably(directory / IDENTITY, encode_identity(identity))


def load_secrets(directory: Path) -> Secrets:
    """Read a node's secrets; raises OSError or msgspec.DecodeError."""
    data = (directory / SECRETS).read_bytes()
    return msgspec.json.decode(data, type=Secrets, dec_hook=conceal)


def save_secrets(directory: Path, secrets: Secrets) -> None:
    """Replace a node's secrets, readable by its owner only."""
    write_durably(directory / SECRETS, encode_secrets(secrets))


def absolute(directory: str | Path) -> Path:
    """Return the one name by which a node's programs call its directory."""
    return Path(os.path.realpath(directory))


def reveal(value: object) -> str:
    """Write a secret in the clear, where msgspec writes what its owner alone reads."""
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError(f"cannot write {type(value).__name__}")


def conceal(kind: type, value: object) -> Secret:
    """Read a secret that ``reveal`` wrote."""
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise NotImplementedError(f"cannot read {kind.__name__}")


prepare(__name__)
