"""Patroni releases its leader key together with its last status, in one transaction.

Patroni 4.1 writes ``/status`` first and then deletes the key. The write wakes the standby, which is
in the middle of a round when the key is deleted, so that only its next round takes the key.
"""

from base64 import b64encode
from collections.abc import Callable
from importlib import import_module
from typing import Any

from openvcha.node.patroni.patches.rpc import ask, install_check

DeleteLeader = Callable[..., Any]

REPLACES = {
    "patroni.dcs:AbstractDCS.delete_leader": "b223c03888156e53",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    dcs, etcd3 = (import_module(name) for name in ("patroni.dcs", "patroni.dcs.etcd3"))
    for needed in ("_write_status", "status_path", "leader_path", "handle_etcd_exceptions"):
        getattr(etcd3.Etcd3, needed)
    install_check(etcd3.PatroniEtcd3Client)
    etcd3.Etcd3.delete_leader = in_one_transaction(dcs.AbstractDCS.delete_leader)


def in_one_transaction(original: DeleteLeader) -> DeleteLeader:
    """Write the status and delete the key in one transaction; leave failures to ``original``."""

    def delete_leader(self: Any, leader: Any, last_lsn: int | None = None) -> bool:
        if leader and last_lsn and self.handle_etcd_exceptions(_together, last_lsn):
            return True
        return bool(original(self, leader, last_lsn))

    return delete_leader


def _together(store: Any, last_lsn: int) -> bool:
    """Run the transaction; return whether the key was ours. Raises what the etcd client raises."""
    key = {"key": _text(store.leader_path)}
    ours = {**key, "target": "VALUE", "value": _text(store._name)}  # noqa: SLF001 - there is no other handle
    # The key first: Patroni's cache applies the first change, and is notified of the others.
    changes = [{"request_delete_range": key}, *_status(store, last_lsn)]
    fields = {"compare": [ours], "success": changes}
    return bool(ask(store._client, "/kv/txn", fields).get("succeeded"))  # noqa: SLF001 - see above


def _status(store: Any, last_lsn: int) -> list[dict[str, Any]]:
    """Return the write that Patroni would do for its status: nothing if it is unchanged."""
    kept: list[str] = []

    def keep(value: str) -> bool:
        kept.append(value)
        return False  # not written yet

    store._write_status = keep  # noqa: SLF001 - see above
    try:
        store.write_leader_optime(last_lsn)
    finally:
        del store._write_status  # noqa: SLF001 - see above
    key = _text(store.status_path)
    return [{"request_put": {"key": key, "value": _text(value)}} for value in kept]


def _text(value: str) -> str:
    return b64encode(value.encode()).decode()
