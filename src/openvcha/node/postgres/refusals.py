"""Why PostgreSQL refuses the cluster's sessions, by the text of a failed login.

libpq passes on no SQLSTATE for a login. An unknown text, perhaps in another language, counts as a
change of the role.
"""

from collections.abc import Mapping
from types import MappingProxyType

from openvcha.store.node_facts import RefusalCause

_SIGNS: Mapping[RefusalCause, tuple[str, ...]] = MappingProxyType(
    {
        # Also: "SSL error: …", of a handshake that fails.
        RefusalCause.TLS: ("does not support ssl", "ssl error", "client certificate"),
        RefusalCause.RULES: ("pg_hba.conf",),
        RefusalCause.FULL: (
            "too many clients",
            "too many connections",
            "connection slots are reserved",
        ),
        # db_user_namespace appends the database to each role's name.
        RefusalCause.NAMESPACE: ('"postgres@',),
    }
)


def refusal_cause(error: str) -> RefusalCause:
    """Return the cause that the error of a login shows."""
    text = error.lower()
    found = (cause for cause, signs in _SIGNS.items() if any(sign in text for sign in signs))
    return next(found, RefusalCause.ROLE)
