"""Settings of Patroni's dynamic configuration that run a program, load code, or open access."""

from typing import Any

MARKER = "/tmp/openvcha-was-here"


def command(marker: str) -> str:
    """Return a program that shows that it ran."""
    return f"touch {marker}"


def parameters(marker: str) -> dict[str, str]:
    """Return the PostgreSQL settings that run, load, read or write what a thief names."""
    run = command(marker)
    return {
        "archive_mode": "on",
        "archive_command": run,
        "archive_library": "thief",
        "restore_command": run,
        "recovery_end_command": run,
        "archive_cleanup_command": run,
        "ssl_passphrase_command": run,
        "shared_preload_libraries": "thief",
        "session_preload_libraries": "thief",
        "local_preload_libraries": "thief",
        "jit_provider": "thief",
        "dynamic_library_path": "/tmp",
        "extension_control_path": "/tmp",
        "oauth_validator_libraries": "thief",
        "unix_socket_directories": "/tmp",
        "listen_addresses": "*",
        "data_directory": "/tmp",
        "config_file": "/tmp/a.conf",
        "hba_file": "/tmp/hba",
        "ident_file": "/tmp/ident",
        "external_pid_file": "/tmp/pid",
        "log_directory": "/tmp",
        "log_filename": "x",
        "log_statement": "all",
        "ssl": "off",
        "ssl_ca_file": "/tmp/ca",
        "password_encryption": "md5",
        "primary_conninfo": "host=thief",
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "synchronous_standby_names": "",
        "include": "/tmp/a.conf",
        "krb_server_keyfile": "/tmp/k",
        "stats_temp_directory": "/tmp",
    }


def settings(marker: str = MARKER) -> dict[str, Any]:
    """Return the same for Patroni itself, by dotted name."""
    run = command(marker)
    postgresql = {
        "callbacks": dict.fromkeys(
            ("on_start", "on_stop", "on_restart", "on_reload", "on_role_change"), run
        ),
        "create_replica_methods": ["thief"],
        "thief": {"command": run},
        "basebackup": {"no-params": True},
        "recovery_conf": {"restore_command": run},
        "custom_conf": "/tmp/a.conf",
        "pre_promote": run,
        "before_stop": run,
        "bin_dir": "/tmp",
        "bin_name": {"postgres": "thief", "pg_ctl": "thief"},
        "pg_ctl_timeout": "x",
        "pg_hba": ["local all all trust"],
        "pg_ident": ["a b c"],
        "data_dir": "/tmp",
        "config_dir": "/tmp",
        "pgpass": "/tmp/p",
        "connect_address": "thief:1",
        "listen": "0.0.0.0:1",
        "proxy_address": "thief:1",
        "authentication": {"superuser": {"username": "thief"}},
        "use_unix_socket": True,
        "remove_data_directory_on_diverged_timelines": True,
        "remove_data_directory_on_rewind_failure": True,
        "parameters": parameters(marker),
    }
    return {
        "postgresql": postgresql,
        "standby_cluster": {
            "host": "thief",
            "restore_command": run,
            "create_replica_methods": ["thief"],
        },
        "bootstrap": {"method": "thief", "thief": {"command": run}, "post_init": run},
        "restapi": {"listen": "0.0.0.0:1"},
        "watchdog": {"mode": "required", "device": "/tmp/w"},
        "slots": {"thief": {"type": "physical"}},
        "permanent_slots": {"thief": {"type": "physical"}},
        "tags": {"nofailover": True},
        "log": {"dir": "/tmp"},
        "etcd3": {"host": "thief:1"},
        "citus": {"group": 0, "database": "thief"},
        "synchronous_mode": "quorum",
        "synchronous_node_count": "$(thief)",
        "ttl": "20; thief",
    }


def names(fields: dict[str, Any]) -> set[str]:
    """Return the name of every setting above, as it is reported."""
    own = {name for name in fields if name != "postgresql"}
    inner = {f"postgresql.{name}" for name in fields["postgresql"] if name != "parameters"}
    last = {f"postgresql.parameters.{name}" for name in fields["postgresql"]["parameters"]}
    return own | inner | last
