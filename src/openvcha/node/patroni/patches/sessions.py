"""Patroni's own sessions with PostgreSQL set what they need, whatever defaults users have set.

Patroni 4.1 passes the superuser's section of its configuration to libpq, for its local sessions
only. But it keeps a list of allowed parameters there, which lacks ``options``.
"""

from importlib import import_module
from typing import Any

OPTIONS = "options"

REPLACES = {
    "patroni.config:_AUTH_ALLOWED_PARAMETERS": "4d5698f0be34d73d",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    config: Any = import_module("patroni.config")
    allowed = config._AUTH_ALLOWED_PARAMETERS  # noqa: SLF001 - there is no other handle
    if OPTIONS not in allowed:
        config._AUTH_ALLOWED_PARAMETERS = (*allowed, OPTIONS)  # noqa: SLF001 - see above
