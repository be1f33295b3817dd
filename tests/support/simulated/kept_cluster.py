"""What a node knows of its cluster, built in one line."""

from typing import Any

import msgspec

from openvcha.node.identity import Identity
from openvcha.node.local_records.cluster import (
    KeptCluster,
    MajorityView,
    configured_nodes,
    keep,
)
from openvcha.store.interface import Member

IDENTITY = Identity(
    cluster_id="c",
    cluster_name="c",
    member="a-1",
    kind="data",
    vm="vm-1",
    name="a",
    ha_address="127.1.1.1",
    etcd_initial_cluster={
        name: f"https://127.1.1.{at}:2380" for name, at in (("a-1", 1), ("b-1", 2), ("w-1", 3))
    },
    data_nodes={"b-1": "127.1.1.2"},
)


CONFIGURATION = msgspec.json.encode(
    {
        "id": "c",
        "nodes": [
            {"member": "a-1", "name": "a", "kind": "data", "vm": "vm-1", "ha_ip": {}},
            {"member": "b-2", "name": "b", "kind": "data", "vm": "vm-4", "ha_ip": {}},
            {"member": "w-2", "name": "w", "kind": "witness", "vm": "vm-5", "ha_ip": {}},
        ],
    }
)


def member(name: str, at: int, *, learner: bool = False) -> Member:
    """Return a member with the URLs of its number."""
    return Member(
        at, name, (f"https://127.1.1.{at}:2380",), (f"https://127.1.1.{at}:2379",), learner
    )


REDEPLOYED = (member("a-1", 1), member("b-2", 4), member("w-2", 5))


KNOWN = MajorityView(REDEPLOYED, "b-2", frozenset({"a-1"}), paused=False, timeline=3, lsn=80)


def kept(known: MajorityView = KNOWN, **changes: Any) -> KeptCluster:
    """Return what a node has kept; ``changes`` are fields of the record."""
    nodes = configured_nodes(CONFIGURATION) or {}
    store = {"store_id": "c1", "revision": 7, "seen": "2026-01-01T00:00:00+00:00"}
    listed = any(one.name == IDENTITY.member for one in known.members)
    found = keep(IDENTITY, known, nodes, listed=listed, **store)
    return msgspec.structs.replace(found, **changes)
