"""What our own sessions with PostgreSQL set for themselves, whatever users have set as defaults.

A default may stand in ``postgresql.auto.conf``, or be set for all roles, a role or a database.
What a client asks for when it connects comes before all of these. It also counts from the first
moment on: libraries that are missing and login triggers cannot keep such a session out.
"""

from collections.abc import Mapping
from types import MappingProxyType

from openvcha.node.engines import OLDEST_POSTGRES

APPLICATION_NAME = "openvcha"

_EVERY_VERSION: Mapping[str, str] = MappingProxyType(
    {
        # Our own deadlines count, and each names its reason.
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_session_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        # What a session may do at all.
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
        # How an answer is written.
        "bytea_output": "hex",
        "DateStyle": "ISO",
        "IntervalStyle": "postgres",
        "lc_messages": "C",
        "client_min_messages": "warning",
        # What nobody but us needs to wait for, or may read.
        "synchronous_commit": "local",
        "password_encryption": "scram-sha-256",
        "log_statement": "none",
        "log_duration": "off",
        "log_min_duration_statement": "-1",
        # What would be loaded first.
        "session_preload_libraries": "",
        "local_preload_libraries": "",
        "jit": "off",
    }
)
_SINCE: Mapping[int, Mapping[str, str]] = MappingProxyType(
    {17: {"transaction_timeout": "0", "event_triggers": "off"}}
)

PATRONI_STATEMENT_MILLISECONDS = 2000


def superuser_settings(major: int = OLDEST_POSTGRES) -> dict[str, str]:
    """Return what a session of the superuser sets; a server refuses names that it does not know."""
    newer = (settings for since, settings in _SINCE.items() if major >= since)
    return {**_EVERY_VERSION, **{name: value for more in newer for name, value in more.items()}}


def superuser_options(major: int = OLDEST_POSTGRES, **changes: str) -> str:
    """Return the settings as libpq's ``options``; spaces in values are escaped already."""
    wanted = {**superuser_settings(major), **changes}
    return " ".join(f"-c {name}={value}" for name, value in wanted.items())


def patroni_options(major: int) -> str:
    """Return the same for Patroni: it keeps its deadline, and stays out of statistics."""
    limit = str(PATRONI_STATEMENT_MILLISECONDS)
    own = superuser_options(major, statement_timeout=limit)
    return f"{own} -c pg_stat_statements.track=none"
