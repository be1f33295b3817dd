"""How libpq's sessions know the PostgreSQL that they talk to. Pure."""

from pathlib import Path

from openvcha.node.engines import Postgres
from openvcha.node.layout import Layout

NO_TLS = {"sslmode": "disable"}


def session_tls(layout: Layout, postgres: Postgres) -> dict[str, str]:
    """Return libpq's settings of a session between nodes; none where PostgreSQL has no TLS.

    A removed node's certificate stays one that clients trust. So a server has to prove that it
    knows the password too, for the very certificate that it shows: who only has a certificate
    could ask for the password as it is, or for none, and be believed.
    """
    if not postgres.has_tls:
        return {}
    return {**certified(layout), "channel_binding": "require"}


def certified(layout: Layout) -> dict[str, str]:
    """Return libpq's settings of a session in which both ends show a certificate of the cluster."""
    return {
        **trusting(layout.service_ca),
        "sslcert": str(layout.certificate),
        "sslkey": str(layout.key),
    }


def trusting(ca: Path, mode: str = "verify-ca") -> dict[str, str]:
    """Return libpq's settings of a session with a server that has a certificate of this CA."""
    return {"sslmode": mode, "sslrootcert": str(ca)}


def session_environment(layout: Layout, postgres: Postgres) -> dict[str, str]:
    """Return the same as environment variables of a program that uses libpq."""
    found = session_tls(layout, postgres)
    return {f"PG{name.replace('_', '').upper()}": value for name, value in found.items()}
