"""A man between the nodes, with the files of an undeployed data node: he reads no password.

Its certificate for PostgreSQL never expires: only clients can withdraw their trust. He answers at
the primary's address with it, and asks for the password in the clear, or for none.
"""

import asyncio
import contextlib
import json
import os
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.node_files import equal_secrets, identity, write_files
from tests.support.serving import serving

from openvcha.api.secret import Secret
from openvcha.node.engines import ENGINES_VARIABLE, Postgres, find_postgres
from openvcha.node.identity import Identity, Secrets
from openvcha.node.layout import Layout
from openvcha.node.patroni.config import patroni_config
from openvcha.node.postgres.leader import superuser_conninfo
from openvcha.node.postgres.own_names import REPLICATION_USER
from openvcha.node.postgres.standby_data.pg_basebackup import (
    backup_argv,
    backup_environment,
    pgpass_line,
)
from openvcha.node.security.certificates import api_certificate, new_authorities
from openvcha.node.security.issuing import node_files

PASSWORD = Secret("of the cluster")
HOST = "127.0.0.1"
CLEARTEXT = struct.pack("!cii", b"R", 8, 3)
NOTHING = struct.pack("!cii", b"R", 8, 0) + struct.pack("!cic", b"Z", 5, b"I")
"""Then the client is let in, and may ask."""
TLS_REQUEST = 80877103
SECONDS = 60.0


@dataclass
class Thief:
    """A thief who answers as a PostgreSQL; ``heard`` is what he was sent after he had asked."""

    tls: ssl.SSLContext
    asks: bytes
    heard: bytes = b""
    connections: int = 0

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._pose(reader, writer)
        writer.transport.abort()

    async def _pose(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size, code = struct.unpack("!ii", await reader.readexactly(8))
        if code == TLS_REQUEST:
            writer.write(b"S")
            await writer.start_tls(self.tls)
            self.connections += 1
            (size,) = struct.unpack("!i", await reader.readexactly(4))
            await reader.readexactly(size - 4)
        writer.write(self.asks)
        await writer.drain()
        while data := await reader.read(1 << 16):
            self.heard += data


@dataclass
class NodeWithFakePrimary:
    """A data node's directory, and the server that answers where it looks for the primary."""

    layout: Layout
    identity: Identity
    secrets: Secrets
    postgres: Postgres
    thief: Thief
    port: int


@asynccontextmanager
async def between(folder: Path, asks: bytes) -> AsyncIterator[NodeWithFakePrimary]:
    authorities = new_authorities()
    secrets = equal_secrets(PASSWORD.reveal())
    api = api_certificate(authorities.service, "127.83.1.10", "localhost")
    own = identity("b-2", ha_address=HOST, public_address="127.83.1.10")
    layout = write_files(folder, node_files(own, authorities, secrets=secrets, api=api))
    stolen = folder / "stolen.pem"
    stolen.write_bytes(api.certificate + api.key)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(stolen)
    thief = Thief(tls, asks)
    async with serving(thief.meet, HOST) as port:
        postgres = Postgres(Path("/pg/bin"), (15, 4), has_tls=True, source="system")
        yield NodeWithFakePrimary(layout, own, secrets, postgres, thief, port)


async def superuser(node: NodeWithFakePrimary) -> None:
    place = superuser_conninfo(HOST, node.port, node.layout, node.secrets, node.postgres)
    with pytest.raises(psycopg.OperationalError):
        await psycopg.AsyncConnection.connect(place)


def by_patroni(section: str) -> Callable[[NodeWithFakePrimary], Awaitable[None]]:
    """Connect with Patroni's own settings, which primary_conninfo and a rewind are built from."""

    async def connect(node: NodeWithFakePrimary) -> None:
        made = json.loads(
            patroni_config(node.identity, node.secrets, node.layout, node.postgres, [])
        )
        told: dict[str, Any] = dict(made["postgresql"]["authentication"][section])
        told["user"] = told.pop("username")
        told.pop("options", None)
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(
                host=HOST, port=node.port, dbname="postgres", connect_timeout=5, **told
            )

    return connect


async def base_backup(node: NodeWithFakePrimary) -> None:
    passwords = node.layout.root / "pgpass"
    passwords.write_bytes(pgpass_line(REPLICATION_USER, PASSWORD.reveal()))
    passwords.chmod(0o600)
    target = node.layout.root / "copied"
    system = find_postgres({ENGINES_VARIABLE: "system"})
    argv = backup_argv(system, target, HOST, node.port, REPLICATION_USER)
    environment = backup_environment(node.layout, system, passwords)
    running = await asyncio.create_subprocess_exec(
        *argv, env={"PATH": os.environ["PATH"], **environment}, stderr=asyncio.subprocess.DEVNULL
    )
    assert await running.wait() != 0


@pytest.mark.parametrize("asks", [CLEARTEXT, NOTHING], ids=["the password", "nothing"])
@pytest.mark.parametrize(
    "connect",
    [superuser, by_patroni("superuser"), by_patroni("replication"), by_patroni("rewind")],
    ids=["superuser", "Patroni", "replication", "rewind"],
)
async def test_a_session_tells_him_nothing(
    connect: Callable[[NodeWithFakePrimary], Awaitable[None]], asks: bytes, tmp_path: Path
) -> None:
    """A server that does not prove for this certificate that it knows the password is sent none."""
    async with between(tmp_path, asks) as node, asyncio.timeout(SECONDS):
        await connect(node)
        assert node.thief.connections == 1
        assert node.thief.heard == b""


@pytest.mark.engines
@pytest.mark.parametrize("asks", [CLEARTEXT, NOTHING], ids=["the password", "nothing"])
async def test_a_base_backup_tells_him_nothing(asks: bytes, tmp_path: Path) -> None:
    """The same for pg_basebackup, from a PostgreSQL that has TLS."""
    async with between(tmp_path, asks) as node, asyncio.timeout(SECONDS):
        await base_backup(node)
        assert node.thief.connections == 1
        assert node.thief.heard == b""
