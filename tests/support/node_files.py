"""The identity, the secrets and the files of a node, for tests that start none of its programs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openvcha.api.secret import Secret
from openvcha.node.identity import Identity, Secrets
from openvcha.node.layout import Layout

SECRETS = Secrets(
    superuser=Secret("one-secret"),
    replication=Secret("two-secret"),
    rewind=Secret("three-secret"),
    patroni_rest=Secret("four-secret"),
    records=Secret("records"),
    application=Secret("five-secret"),
)


def identity(member: str = "own", *, ha_address: str = "127.1.1.1", **changes: Any) -> Identity:
    """Return the identity of a data node, the only member of its store.

    ``changes`` are fields of it.
    """
    alone: dict[str, Any] = {
        "cluster_id": "c",
        "cluster_name": "lab",
        "member": member,
        "kind": "data",
        "vm": "vm-1",
        "name": member,
        "ha_address": ha_address,
        "etcd_initial_cluster": {member: f"https://{ha_address}:2380"},
    }
    return Identity(**alone | changes)


def issued_identity(kind: str = "data") -> Identity:
    """Return an identity of this kind with all that certificates name."""
    return identity(
        "a-1", name="a", kind=kind, public_address="127.2.2.2", infrastructure={"kind": "local"}
    )


def equal_secrets(value: str = "pw") -> Secrets:
    """Return secrets that all have this value."""
    return Secrets(**dict.fromkeys(Secrets.__struct_fields__, Secret(value)))


def write_files(root: Path, files: Mapping[str, bytes]) -> Layout:
    """Write files into a node's directory, for its account only, and return its layout."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
    return Layout(root)
