"""PostgreSQL's settings: who may enter, how it logs, how it notices a lost peer."""

from collections.abc import Sequence
from typing import Any

from openvcha.node.engines import Postgres
from openvcha.node.layout import Layout

Settings = dict[str, Any]

JSON_LOG_SINCE = 15


def shared_settings() -> Settings:
    """Give the settings that must be equal on both data nodes; the cluster keeps them."""
    return {
        "wal_level": "replica",
        "wal_log_hints": "on",
        "hot_standby": "on",
        "max_connections": 200,
        "max_wal_senders": 10,
        # Patroni keeps the slot of each member that was replaced for minutes, and a copy needs one:
        # who redeploys again and again must not run out of them.
        "max_replication_slots": 100,
        "wal_keep_size": "256MB",
        # A standby that stays away must not fill the active node's disk.
        "max_slot_wal_keep_size": "4GB",
    }


def local_settings(layout: Layout, postgres: Postgres) -> Settings:
    """Give the settings that are written at each start of a node."""
    return {
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "lc_messages": "C",
        **_peers(),
        **_logging(layout, postgres),
        **(_tls(layout) if postgres.has_tls else {}),
    }


def pg_hba(tls: bool, replication: str, administrators: Sequence[str]) -> list[str]:
    """Give the lines of pg_hba.conf; whoever is not named is refused.

    Nodes cannot be told apart by address (on one machine all come from 127.0.0.1), so those who
    may do everything need the cluster's certificate besides their password.
    """
    kind = "hostssl" if tls else "host"
    proof = "scram-sha-256 clientcert=verify-ca" if tls else "scram-sha-256"
    return [
        f"{kind} replication {replication} all {proof}",
        *(f"{kind} all {user} all {proof}" for user in administrators),
        f"{kind} all all all scram-sha-256",
    ]


def _peers() -> Settings:
    return {
        "wal_sender_timeout": "5s",
        "wal_receiver_timeout": "5s",
        "wal_receiver_status_interval": "1s",
        "wal_retrieve_retry_interval": "500ms",
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
        "tcp_user_timeout": "10s",
    }


def _logging(layout: Layout, postgres: Postgres) -> Settings:
    structured = "jsonlog" if postgres.version[0] >= JSON_LOG_SINCE else "csvlog"
    return {
        "logging_collector": "on",
        "log_destination": structured,
        "log_directory": str(layout.logs),
        "log_filename": "postgresql-%a.log",
        "log_file_mode": "0600",
        "log_rotation_age": "1d",
        "log_rotation_size": 0,
        "log_truncate_on_rotation": "on",
    }


def _tls(layout: Layout) -> Settings:
    return {
        "ssl": "on",
        "ssl_min_protocol_version": "TLSv1.2",
        "ssl_ca_file": str(layout.ca),
        "ssl_cert_file": str(layout.postgres_certificate),
        "ssl_key_file": str(layout.key),
    }
