"""Fixtures for the protocols: a complete edge in memory, with a simulated dispatcher."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from tests.support.edge import STOP_SECONDS, Edge, Served, TlsFiles, make_edge, make_tls

from openvcha.api_server.server.https import HttpsServer, Limits


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """Return an edge with an administrator, a reader and a user without access."""
    made = await make_edge()
    async with made.client:
        yield made


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Return a certificate for 127.0.0.1, and the authority to trust."""
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def served(edge: Edge, tls: TlsFiles) -> AsyncIterator[Served]:
    """Serve the edge on its own port, with long timeouts, as the machine may be busy."""
    limits = Limits(request_seconds=60.0, stop_seconds=STOP_SECONDS, header_bytes=8192)
    async with _serving(edge, tls, limits) as served:
        yield served


@pytest.fixture
async def hasty(edge: Edge, tls: TlsFiles) -> AsyncIterator[Served]:
    """Serve the edge with short timeouts."""
    limits = Limits(request_seconds=0.5, keep_alive_seconds=60, stop_seconds=1)
    async with _serving(edge, tls, limits) as served:
        yield served


@asynccontextmanager
async def _serving(edge: Edge, tls: TlsFiles, limits: Limits) -> AsyncIterator[Served]:
    server = HttpsServer(edge.app, tls.certificate, tls.key, limits=limits)
    _, port = await server.start("127.0.0.1", 0)
    yield Served(edge, server, port, tls)
    await server.stop()


@pytest.fixture
def logged() -> Any:
    """Return the log, as a list of events."""
    with structlog.testing.capture_logs() as events:
        yield events
