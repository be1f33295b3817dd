"""A node's identity and secrets, for tests of the certificates it is issued."""

from openvcha.api.secret import Secret
from openvcha.node.identity import (
    Identity,
    Secrets,
)

SECRETS = Secrets(
    superuser=Secret("one-secret"),
    replication=Secret("two-secret"),
    rewind=Secret("three-secret"),
    patroni_rest=Secret("four-secret"),
    records=Secret("records"),
    application=Secret("five-secret"),
)


def identity(kind: str = "data") -> Identity:
    """Return an identity of this kind."""
    return Identity(
        cluster_id="c",
        cluster_name="lab",
        member="a-1",
        kind="data" if kind == "data" else "witness",
        vm="vm-1",
        name="a",
        ha_address="127.1.1.1",
        public_address="127.2.2.2",
        etcd_initial_cluster={"a-1": "https://127.1.1.1:2380"},
        infrastructure={"kind": "local"},
    )
