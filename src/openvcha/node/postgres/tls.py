"""TLS parameters of libpq's sessions with PostgreSQL. Pure."""

from pathlib import Path

from openvcha.node.engines import Postgres
from openvcha.node.layout import Layout

NO_TLS = {"sslmode": "disable"}


def session_tls(layout: Layout, postgres: Postgres) -> dict[str, str]:
    """Return libpq's parameters for a session between nodes; none if PostgreSQL has no TLS.

    Clients continue to trust a removed node's certificate. So a server must also prove that it
    knows the password, bound to its certificate (channel binding): otherwise a server with only a
    certificate could request the password in the clear, or none, and be trusted.
    """
    if not postgres.has_tls:
        return {}
    return {**certified(layout), "channel_binding": "require"}


def certified(layout: Layout) -> dict[str, str]:
    """Return libpq's settings for a session in which both ends show a cluster certificate."""
    return {
        **trusting(layout.service_ca),
        "sslcert": str(layout.certificate),
        "sslkey": str(layout.key),
    }


def trusting(ca: Path, mode: str = "verify-ca") -> dict[str, str]:
    """Return libpq's settings for a session with a server that has a certificate of this CA."""
    return {"sslmode": mode, "sslrootcert": str(ca)}


def session_environment(layout: Layout, postgres: Postgres) -> dict[str, str]:
    """Return the parameters as environment variables for a program that uses libpq."""
    found = session_tls(layout, postgres)
    return {f"PG{name.replace('_', '').upper()}": value for name, value in found.items()}
