"""PostgreSQL's settings: access, logging, detection of lost peers."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from openvcha.node.address.client_limit import AUTHENTICATION_SECONDS
from openvcha.node.engines import Postgres
from openvcha.node.layout import Layout
from openvcha.node.postgres.tls_values import TLS_VALUES, fits
from openvcha.system.network import keepalive

Settings = dict[str, Any]

JSON_LOG_SINCE = 15
RESERVED_SINCE = 16

_VITAL = frozenset(
    {
        "archive_cleanup_command",
        "data_directory",
        "db_user_namespace",
        "dynamic_library_path",
        "fsync",
        "full_page_writes",
        "hba_file",
        "hot_standby",
        "ident_file",
        "listen_addresses",
        "max_replication_slots",
        "max_wal_senders",
        "port",
        "post_auth_delay",
        "pre_auth_delay",
        "primary_conninfo",
        "primary_slot_name",
        "promote_trigger_file",
        "recovery_end_command",
        "recovery_min_apply_delay",
        "restore_command",
        "ssl",
        "ssl_ca_file",
        "ssl_cert_file",
        "ssl_crl_dir",
        "ssl_crl_file",
        "ssl_dh_params_file",
        "ssl_key_file",
        "ssl_passphrase_command",
        "synchronous_standby_names",
        "wal_level",
        "wal_log_hints",
    }
)
"""Settings on which replication, failover, the durability of acknowledged rows or the cluster's own
sessions depend."""
_OWNED = frozenset(
    {
        "authentication_timeout",
        "lc_messages",
        "log_destination",
        "log_directory",
        "log_file_mode",
        "log_filename",
        "log_rotation_age",
        "log_rotation_size",
        "log_timezone",
        "log_truncate_on_rotation",
        "logging_collector",
        "max_slot_wal_keep_size",
        "password_encryption",
        "reserved_connections",
        "ssl_passphrase_command_supports_reload",
        "superuser_reserved_connections",
        "tcp_keepalives_count",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_user_timeout",
        "unix_socket_directories",
        "wal_keep_size",
        "wal_receiver_status_interval",
        "wal_receiver_timeout",
        "wal_retrieve_retry_interval",
        "wal_sender_timeout",
    }
)
_TARGETS = "recovery_target"
_DELAYS = frozenset({"post_auth_delay", "pre_auth_delay"})
_NO_DELAY = re.compile(r"0+ *(us|ms|s|min|h|d)?")
EARLY: Final = frozenset({"off", "local", "false", "no", "0"})
"""Values of ``synchronous_commit`` that acknowledge a commit before the passive has it."""
_UNWANTED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "synchronous_commit": EARLY,
        # We parse the log to find why a server does not start or a base backup fails.
        "log_min_messages": frozenset({"log", "fatal", "panic"}),
    }
)


def is_vital(name: str, values: Mapping[str, str]) -> bool:
    """Return whether a new node would not work if users had changed this setting.

    ``values`` has the value of each setting.
    """
    if name in TLS_VALUES:
        return not fits(name, values)
    return _is_vital_always(name)


def is_owned(name: str, value: str) -> bool:
    """Return whether the cluster sets this setting, or relies on it not having this value."""
    if name in _UNWANTED:
        return value.lower() in _UNWANTED[name]
    if name == "dynamic_library_path":
        # A standby looks there for the library with which it streams.
        return "$libdir" not in value
    if name in _DELAYS:
        return _NO_DELAY.fullmatch(value) is None
    return name in _OWNED or name in TLS_VALUES or _is_vital_always(name)


def _is_vital_always(name: str) -> bool:
    return name in _VITAL or name.startswith(_TARGETS)


def shared_settings() -> Settings:
    """Return the settings that must be equal on both data nodes; the store keeps them."""
    return {
        "wal_level": "replica",
        "wal_log_hints": "on",
        "hot_standby": "on",
        "max_connections": 200,
        "max_wal_senders": 10,
        # Patroni keeps the slot of a replaced member for minutes, and each base backup needs one:
        # repeated redeploys must not run out of slots.
        "max_replication_slots": 100,
        "wal_keep_size": "256MB",
        # An absent standby must not fill the active node's disk.
        "max_slot_wal_keep_size": "4GB",
    }


def local_settings(layout: Layout, postgres: Postgres) -> Settings:
    """Return the settings that are written at each start of a node."""
    return {
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "lc_messages": "C",
        **_reserved_connections(postgres),
        **_peers(),
        **_logging(layout, postgres),
        **(_tls(layout) if postgres.has_tls else {}),
    }


def pg_hba(
    tls: bool, replication: str, administrators: Sequence[str], clients: Sequence[str] = ()
) -> list[str]:
    """Return the lines of pg_hba.conf; all other connections are refused.

    ``clients`` are the networks from which all other users may log in; none stands for all.

    Nodes cannot be identified by address (on one machine all come from 127.0.0.1), so privileged
    roles need a certificate of the cluster besides their password.
    """
    kind = "hostssl" if tls else "host"
    proof = "scram-sha-256 clientcert=verify-ca" if tls else "scram-sha-256"
    return [
        f"{kind} replication {replication} all {proof}",
        *(f"{kind} all {user} all {proof}" for user in administrators),
        *(f"{kind} all all {network} scram-sha-256" for network in clients or ("all",)),
    ]


def _reserved_connections(postgres: Postgres) -> Settings:
    """Return the settings that reserve connections for the cluster's own sessions."""
    places = {"superuser_reserved_connections": 10}
    if postgres.version[0] >= RESERVED_SINCE:
        places["reserved_connections"] = 5
    return places


def _peers() -> Settings:
    return {
        # An unfinished login occupies a connection.
        "authentication_timeout": f"{AUTHENTICATION_SECONDS}s",
        "wal_sender_timeout": "5s",
        "wal_receiver_timeout": "5s",
        "wal_receiver_status_interval": "1s",
        "wal_retrieve_retry_interval": "500ms",
        "tcp_keepalives_idle": keepalive.IDLE_SECONDS,
        "tcp_keepalives_interval": keepalive.INTERVAL_SECONDS,
        "tcp_keepalives_count": keepalive.PROBES,
        "tcp_user_timeout": f"{keepalive.UNACKNOWLEDGED_SECONDS}s",
    }


def _logging(layout: Layout, postgres: Postgres) -> Settings:
    structured = "jsonlog" if postgres.version[0] >= JSON_LOG_SINCE else "csvlog"
    return {
        "logging_collector": "on",
        "log_destination": structured,
        "log_directory": str(layout.logs),
        "log_filename": "postgresql-%a.log",
        # We parse it: see node/postgres/log.py.
        "log_timezone": "UTC",
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
