"""Serving in tests: nothing is left of a connection, however far it had got."""

import asyncio
import contextlib
import gc
import socket
import ssl
import warnings
from pathlib import Path

import pytest
from tests.support.edge import make_tls
from tests.support.serving import Handler, serving

HOST = "127.0.0.1"
TURNS = range(6)


async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Handle a connection until its client leaves, and forget to close it."""
    del writer
    await reader.read()


def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Keep nothing, and close nothing."""


async def polite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


def left_behind(
    handle: Handler, turns: int, *, leaves: bool, tls: ssl.SSLContext | None
) -> list[str]:
    """Return the warnings about what a server left whose client came ``turns`` before its end."""

    async def run() -> None:
        async with serving(handle, HOST, tls=tls) as port:
            client = socket.create_connection((HOST, port))
            if leaves:
                client.close()
            for _ in range(turns):
                await asyncio.sleep(0)
        client.close()

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        asyncio.run(run())
        gc.collect()
    return [str(one.message) for one in found]


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("handle", [patient, idle, polite])
def test_nothing_is_left_of_a_connection_that_has_just_come(
    handle: Handler, turns: int, leaves: bool
) -> None:
    """Python 3.11 accepts in tasks that the end of a server does not wait for."""
    assert left_behind(handle, turns, leaves=leaves, tls=None) == []


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("leaves", [False, True])
def test_nothing_is_left_of_a_handshake(tmp_path: Path, turns: int, leaves: bool) -> None:
    """The client sends nothing, so it would last for a minute."""
    files = make_tls(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    assert left_behind(patient, turns, leaves=leaves, tls=tls) == []


def test_the_tests_serve_in_no_other_way() -> None:
    """A server of asyncio's own leaves connections behind, which fail a later test."""
    own = "asyncio." + "start_server("
    tests = Path(__file__).parent
    found = [
        str(path.relative_to(tests)) for path in tests.rglob("*.py") if own in path.read_text()
    ]
    assert found == []
