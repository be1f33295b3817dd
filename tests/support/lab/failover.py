"""Waiting for a lab's next active node, and reading its events."""

import os

import psycopg
from tests.support.lab.running_lab import NO_ACTIVE, POLL_SECONDS, VCHA, RunningLab
from tests.support.waiting import until

from openvcha.node.engines import find_postgres
from openvcha.node.identity import load_identity, load_secrets
from openvcha.node.postgres.leader import superuser_conninfo
from openvcha.node.postgres.server import postgres_major

TAKE_OVER_SECONDS = 240.0


def wait_for_successor(running: RunningLab, old: str) -> None:
    """Wait until another node serves the API and accepts the session opened before."""
    until(
        lambda: running.name_of("ACTIVE") != old,
        TAKE_OVER_SECONDS,
        absent=NO_ACTIVE,
        pause=POLL_SECONDS,
    )


def warnings(running: RunningLab) -> set[str]:
    """Return the ids of the health warnings, without their prefix."""
    found = running.admin.cluster(partial=True).get("health_warnings", [])
    return {warning["error"]["id"].removeprefix(VCHA) for warning in found}


def event_names(running: RunningLab) -> list[str]:
    """Return the events so far: the end of each type, and its node."""
    events = running.reader.call("GET", "/openvcha/events")
    ends = [".".join(event["type"].split(".")[-2:]) for event in events]
    return [f"{end} {e.get('node', '')}".strip() for end, e in zip(ends, events, strict=True)]


def superuser(running: RunningLab, role: str) -> psycopg.Connection:
    """Connect to a data node's own PostgreSQL as a person does, with its default settings."""
    layout = running.layout(running.name_of(role))
    identity, secrets = load_identity(layout.root), load_secrets(layout.root)
    postgres = find_postgres(os.environ, postgres_major(layout.pgdata))
    port = identity.ports.postgres
    place = superuser_conninfo(identity.ha_address, port, layout, secrets, postgres)
    return psycopg.connect(place, autocommit=True, options="")


def there(connection: psycopg.Connection, table: str) -> bool:
    """Return whether a table exists."""
    row = connection.execute("select to_regclass(%s) is not null", (table,)).fetchone()
    return row is not None and bool(row[0])
