"""The listener of new nodes beside the one of clients: it never holds that one up."""

import asyncio
import socket
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from tests.support.edge import make_tls
from tests.support.kernel import accepted

from openvcha.api_server.server.https import HttpsServer
from openvcha.client.trust import tls_by_authority_thumbprint
from openvcha.daemon.api_processes import process
from openvcha.daemon.api_processes.join_listener import CONNECTIONS, AlsoJoins, join_server
from openvcha.daemon.leading.leader_term import LeaderTerm
from openvcha.node.identity import Ports
from openvcha.node.layout import NODE_KEY, POSTGRES_CERTIFICATE, SERVICE_CA_CERTIFICATE
from openvcha.node.process.supervised_loop import BackgroundFailures
from openvcha.node.security.certificates import (
    new_authority,
    postgres_certificate,
    requested_key,
    signing_request,
)
from openvcha.system.thumbprints import thumbprint_sha256

HA = "127.83.2.211"


async def no_app(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, receive, send


def certified(directory: Path) -> str:
    """Write the files of a data node; return its authority's thumbprint."""
    authority, own = new_authority(), signing_request(HA)
    certificate = postgres_certificate(
        authority, HA, "127.0.0.1", requested_key(own.certificate, HA)
    )
    (directory / "tls").mkdir()
    (directory / POSTGRES_CERTIFICATE).write_bytes(certificate)
    (directory / NODE_KEY).write_bytes(own.key)
    (directory / SERVICE_CA_CERTIFICATE).write_bytes(authority.certificate)
    return thumbprint_sha256(authority.certificate)


def clients_of(directory: Path) -> HttpsServer:
    (directory / "clients").mkdir()
    files = make_tls(directory / "clients")
    return HttpsServer(no_app, files.certificate, files.key)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HA, 0))
        return int(probe.getsockname()[1])


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HA, port)
    except OSError:
        return False
    writer.close()
    return True


async def test_it_is_reached_at_the_ha_address_with_the_clients_authority(tmp_path: Path) -> None:
    """A new node knows no more than that authority's thumbprint."""
    thumbprint, port = certified(tmp_path), free_port()
    server = AlsoJoins(clients_of(tmp_path), join_server(no_app, tmp_path), (HA, port))
    await server.start("127.0.0.1", 0)
    async with asyncio.timeout(60):
        while not await listens(port):  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.01)
    context = await tls_by_authority_thumbprint(HA, port, thumbprint)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    _, writer = await asyncio.open_connection(HA, port, ssl=context)
    writer.transport.abort()
    await server.stop()
    assert not await listens(port)
    assert not server.running


async def test_clients_are_served_while_the_ha_address_is_not_usable(tmp_path: Path) -> None:
    """It is reported, and tried again."""
    certified(tmp_path)
    port, failing = free_port(), BackgroundFailures()
    with socket.socket() as holder:
        holder.bind((HA, port))
        holder.listen()
        joins = join_server(no_app, tmp_path)
        server = AlsoJoins(clients_of(tmp_path), joins, (HA, port), failing)
        await server.start("127.0.0.1", 0)
        assert server.running
        async with asyncio.timeout(60):
            while "API: joins" not in failing.own:  # noqa: ASYNC110 - the server's
                await asyncio.sleep(0.01)
        assert f"cannot listen on {HA} port {port}" in failing.own["API: joins"]
    async with asyncio.timeout(60):
        while not joins.running:  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.01)
    server.close()
    assert not await listens(port)
    await server.stop()
    assert not joins.running


async def test_a_flood_takes_few_connections(tmp_path: Path) -> None:
    """Clients at the other address keep theirs."""
    certified(tmp_path)
    joins, port = join_server(no_app, tmp_path), free_port()
    await joins.start(HA, port)
    held = [socket.create_connection((HA, port)) for _ in range(2 * CONNECTIONS)]
    async with asyncio.timeout(60):
        while len(found := accepted(port)) > CONNECTIONS:
            for each in found:
                each.close()
            await asyncio.sleep(0.05)
    for each in (*held, *found):
        each.close()
    await joins.stop()


@pytest.mark.parametrize("twice", [False, True])
async def test_it_starts_and_stops_like_any_server(tmp_path: Path, twice: bool) -> None:
    """Also without ever having been started; and again."""
    certified(tmp_path)
    server = AlsoJoins(clients_of(tmp_path), join_server(no_app, tmp_path), (HA, free_port()))
    await server.stop()
    for _ in range(1 + twice):
        await server.start("127.0.0.1", 0)
        assert server.running
        server.close()
        await server.stop()
        assert not server.running


@pytest.mark.parametrize(
    ("worker", "joins"), [((0, 1), True), ((1, 2), True), ((2, 2), False), ((4, 4), False)]
)
def test_one_worker_serves_new_nodes(worker: tuple[int, int], joins: bool, tmp_path: Path) -> None:
    """Two could not listen at one address."""
    identity = SimpleNamespace(ha_address=HA, ports=Ports(), infrastructure={})
    services: Any = SimpleNamespace(identity=identity, directory=tmp_path, failing=None)
    server = process.server_of(
        services, process.ApiWorker(*worker), process.Apps(no_app, no_app), LeaderTerm()
    )
    assert isinstance(server, AlsoJoins) is joins
