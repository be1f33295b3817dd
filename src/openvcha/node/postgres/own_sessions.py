"""Settings of our own PostgreSQL sessions, whatever defaults users have set.

A default may be in ``postgresql.auto.conf``, or be set for all roles, a role or a database. The
options of a connection override all of these, and apply from its start: missing libraries and login
triggers cannot keep such a session out.
"""

from collections.abc import Mapping
from types import MappingProxyType

from openvcha.node.engines import MIN_POSTGRES

APPLICATION_NAME = "openvcha"

_EVERY_VERSION: Mapping[str, str] = MappingProxyType(
    {
        # Our own deadlines apply, and each one names its reason.
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_session_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        # What a session may do.
        "role": "none",
        "default_transaction_read_only": "off",
        "default_transaction_deferrable": "off",
        "default_transaction_isolation": r"read\ committed",
        "session_replication_role": "origin",
        "exit_on_error": "off",
        # What a statement means.
        "search_path": "pg_catalog",
        "row_security": "off",
        "standard_conforming_strings": "on",
        "transform_null_equals": "off",
        "default_tablespace": "",
        "temp_file_limit": "-1",
        # How results are formatted. Drivers return text in SQL_ASCII as bytes.
        "client_encoding": "UTF8",
        "TimeZone": "UTC",
        "extra_float_digits": "1",
        "quote_all_identifiers": "off",
        "bytea_output": "hex",
        "DateStyle": "ISO",
        "IntervalStyle": "postgres",
        "lc_messages": "C",
        "client_min_messages": "warning",
        # What only we need to wait for, or may read.
        "synchronous_commit": "local",
        "password_encryption": "scram-sha-256",
        "log_statement": "none",
        "log_duration": "off",
        "log_min_duration_statement": "-1",
        "log_min_duration_sample": "-1",
        "log_transaction_sample_rate": "0",
        "debug_print_parse": "off",
        "debug_print_rewritten": "off",
        "debug_print_plan": "off",
        # What would be loaded when a session starts.
        "session_preload_libraries": "",
        "local_preload_libraries": "",
        "jit": "off",
    }
)
_SINCE: Mapping[int, Mapping[str, str]] = MappingProxyType(
    {17: {"transaction_timeout": "0", "event_triggers": "off"}}
)

PATRONI_STATEMENT_MILLISECONDS = 2000


def superuser_settings(major: int = MIN_POSTGRES) -> dict[str, str]:
    """Return the settings of a superuser session; a server refuses unknown names."""
    newer = (settings for since, settings in _SINCE.items() if major >= since)
    return {**_EVERY_VERSION, **{name: value for more in newer for name, value in more.items()}}


def superuser_options(major: int = MIN_POSTGRES, **changes: str) -> str:
    """Return the settings as libpq's ``options``; the values are already escaped."""
    wanted = {**superuser_settings(major), **changes}
    return " ".join(f"-c {name}={value}" for name, value in wanted.items())


def patroni_options(major: int) -> str:
    """Return the options for Patroni: with its own deadline, and excluded from statistics."""
    limit = str(PATRONI_STATEMENT_MILLISECONDS)
    own = superuser_options(major, statement_timeout=limit)
    return f"{own} -c pg_stat_statements.track=none"
