"""Patroni's command line and configuration on a node."""

import shlex
import sys
from collections.abc import Sequence

import msgspec

from openvcha.node.engines import Postgres
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import known_endpoints
from openvcha.node.identity import Identity, Secrets, load_secrets
from openvcha.node.layout import Layout
from openvcha.node.patroni.patches.connections import BACKLOG, THREADS
from openvcha.node.postgres.own_names import REPLICATION_USER, REWIND_USER, SUPERUSER
from openvcha.node.postgres.own_sessions import patroni_options
from openvcha.node.postgres.settings import Settings, local_settings, pg_hba, shared_settings
from openvcha.node.postgres.tls import session_tls
from openvcha.store import keys
from openvcha.store.account import Account
from openvcha.system.files.durable import write_durably
from openvcha.system.network.host_port import bracketed, host_port

REST_USER = "openvcha"
LAUNCHER = "openvcha.node.patroni.launcher"

LOOP_SECONDS = 1
OLD_SLOTS_KEPT = "5min"


def retry_seconds(leader_ttl: int) -> int:
    """Return Patroni's ``retry_timeout``: the maximum that fits into the leader key's ttl.

    A round with two waits must end before the key expires, so that the primary is demoted in time.
    Patroni divides this among the members of the store, all of which wait during an election: with
    a share shorter than an election it would demote a healthy primary.
    """
    return (leader_ttl - LOOP_SECONDS) // 2


def patroni_argv(layout: Layout) -> list[str]:
    """Return Patroni's command line."""
    # -P: import nothing from the current directory. -u: unbuffered output.
    return [sys.executable, "-P", "-u", "-m", LAUNCHER, str(layout.patroni_config)]


def patroni_config(
    identity: Identity,
    secrets: Secrets,
    layout: Layout,
    postgres: Postgres,
    etcd_endpoints: Sequence[str],
    *,
    account: Account | None = None,
) -> bytes:
    """Return `patroni.yml` (JSON is valid YAML). It contains passwords: store it with mode 0600."""
    config = {
        "scope": keys.PATRONI_SCOPE,
        "namespace": keys.PATRONI_NAMESPACE.rstrip("/"),
        "name": identity.member,
        "log": {"level": "INFO", "deduplicate_heartbeat_logs": True},
        "etcd3": _etcd(layout, etcd_endpoints) | _account(account),
        "restapi": _restapi(identity, secrets, layout),
        "ctl": {
            "cacert": str(layout.ca),
            "certfile": str(layout.certificate),
            "keyfile": str(layout.key),
        },
        "bootstrap": _bootstrap(layout, identity),
        "postgresql": _postgresql(identity, secrets, layout, postgres),
        "watchdog": {"mode": "off"},
    }
    return msgspec.json.format(msgspec.json.encode(config), indent=2)


def write_patroni_config(identity: Identity, layout: Layout, postgres: Postgres) -> None:
    """Write `patroni.yml` from the current files of the node. Raises OSError."""
    secrets, endpoints = load_secrets(layout.root), known_endpoints(identity, layout)
    account = NodeAccount(layout.root)()
    config = patroni_config(identity, secrets, layout, postgres, endpoints, account=account)
    write_durably(layout.patroni_config, config)


def _etcd(layout: Layout, endpoints: Sequence[str]) -> Settings:
    return {
        "hosts": [endpoint.partition("://")[2] for endpoint in endpoints],
        "protocol": "https",
        "cacert": str(layout.ca),
        "cert": str(layout.certificate),
        "key": str(layout.key),
    }


def _account(account: Account | None) -> Settings:
    if account is None:
        return {}
    return {"username": account.name, "password": account.password.reveal()}


def _restapi(identity: Identity, secrets: Secrets, layout: Layout) -> Settings:
    place = host_port(identity.ha_address, identity.ports.patroni)
    return {
        "listen": place,
        "connect_address": place,
        "certfile": str(layout.certificate),
        "keyfile": str(layout.key),
        "cafile": str(layout.ca),
        "verify_client": "required",
        "thread_pool_size": THREADS,
        "request_queue_size": BACKLOG,
        "authentication": {"username": REST_USER, "password": secrets.patroni_rest.reveal()},
    }


def _bootstrap(layout: Layout, identity: Identity) -> Settings:
    leader_ttl, creation = identity.timers.leader_ttl, identity.creation
    return {
        "dcs": {
            "ttl": leader_ttl,
            "loop_wait": LOOP_SECONDS,
            "retry_timeout": retry_seconds(leader_ttl),
            "primary_start_timeout": 0,
            "synchronous_mode": True,
            "synchronous_mode_strict": False,
            "member_slots_ttl": OLD_SLOTS_KEPT,
            "postgresql": {
                "use_pg_rewind": True,
                "use_slots": True,
                "parameters": shared_settings(),
            },
        },
        "initdb": [
            "data-checksums",
            {"encoding": creation.encoding},
            # By default C: the sort order must be the same on all nodes, whatever their C library.
            {"locale": creation.locale},
            {"auth-host": "scram-sha-256"},
            {"auth-local": "scram-sha-256"},
        ],
        "post_bootstrap": shlex.join(
            [sys.executable, "-m", "openvcha.node.postgres.post_bootstrap", str(layout.root)]
        ),
    }


def _postgresql(
    identity: Identity, secrets: Secrets, layout: Layout, postgres: Postgres
) -> Settings:
    place = host_port(identity.ha_address, identity.ports.postgres)
    tls = session_tls(layout, postgres)
    users = {
        "superuser": (SUPERUSER, secrets.superuser),
        "replication": (REPLICATION_USER, secrets.replication),
        "rewind": (REWIND_USER, secrets.rewind),
    }
    authentication = {
        section: {"username": user, "password": password.reveal(), **tls}
        for section, (user, password) in users.items()
    }
    # Patroni passes these to libpq for its own sessions, instead of its defaults.
    authentication["superuser"]["options"] = patroni_options(postgres.version[0])
    return {
        "listen": _listen(identity),
        "connect_address": place,
        "data_dir": str(layout.pgdata),
        "bin_dir": str(postgres.bin_dir),
        "pgpass": str(layout.patroni_passwords),
        "use_unix_socket": False,
        "use_unix_socket_repl": False,
        "authentication": authentication,
        "parameters": local_settings(layout, postgres),
        "pg_hba": pg_hba(
            postgres.has_tls,
            REPLICATION_USER,
            (SUPERUSER, REWIND_USER),
            identity.public.clients if identity.public else (),
        ),
    }


def _listen(identity: Identity) -> str:
    """Return where PostgreSQL listens, in Patroni's form; Patroni itself uses the first address."""
    addresses = [identity.ha_address]
    if identity.public:  # else a forwarder has it
        addresses.append(identity.public_address)
    return f"{','.join(map(bracketed, addresses))}:{identity.ports.postgres}"
