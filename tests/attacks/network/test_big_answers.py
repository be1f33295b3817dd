"""Hostile answers of peers: endless, compressed, or deeply nested.

A certificate of the cluster proves membership, not good intentions: with the files of a stolen
witness its thief can answer as a member.
"""

import asyncio
import contextlib
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.support.edge import TlsFiles, make_tls
from tests.support.serving import serving
from tests.support.simulated.connectivity import ObservedCluster
from tests.support.simulated.kept_cluster import IDENTITY

from openvcha.api.errors import ApiError
from openvcha.api.secret import Secret
from openvcha.api.structures import ConnectionSpec, CredentialsSpec
from openvcha.cluster.patroni_client import PatroniClient, PatroniUnreachable
from openvcha.node.http import ask
from openvcha.node.postgres.leader import parse_member_address
from openvcha.node.recovery.probe import ProbeReply, ReplyKind, probe
from openvcha.node.recovery.survey import MAX_MEMBERS, describe_patroni, listed, places
from openvcha.operations.peers.identity import ActiveNode, verify_peer
from openvcha.store.errors import StoreUnavailable
from openvcha.store.etcd.client import Etcd
from openvcha.store.patroni.state import Unreadable, read_sync

ENDLESS = 64 << 20
"""Bytes that he would send; who takes them all has them in memory."""
BORNE = 48 << 20
"""What is on its way may be taken too: the buffers of sockets, beside what a reader may hold."""
PIECE = b"[" * (1 << 20)
DEEP = b"[" * 100_000
OBJECT = b'{"x":' + DEEP
PATIENCE = 60.0


@dataclass
class Liar:
    """A server that always sends the same; ``taken``: the most bytes it sent on one connection."""

    files: TlsFiles
    head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    body: bytes | None = None
    port: int = 0
    taken: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.files.authority))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if self.body is not None:
                self.head += b"Content-Length: %d\r\n" % len(self.body)
            writer.write(self.head + b"Connection: close\r\n\r\n" + (self.body or b""))
            await writer.drain()
            for sent in range(0, 0 if self.body else ENDLESS, len(PIECE)):
                writer.write(PIECE)
                await writer.drain()
                # Over TLS neither reports that the reader has gone before the loop has run.
                await asyncio.sleep(0)
                self.taken = max(self.taken, sent + len(PIECE))
        writer.transport.abort() if self.body is None else writer.close()


@contextlib.asynccontextmanager
async def lying(files: TlsFiles, **how: Any) -> AsyncIterator[Liar]:
    """Serve hostile answers for the length of a block."""
    liar = Liar(files, **how)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    async with serving(liar.serve, tls=context) as liar.port:
        yield liar


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls(tmp_path_factory.mktemp("tls"))


async def page(liar: Liar) -> None:
    said = await ask(liar.url, "/patroni", liar.trusted(), PATIENCE)
    assert said is not None


async def knocking(liar: Liar) -> None:
    found = await probe("127.0.0.1", liar.port, "/members", liar.trusted(), PATIENCE)
    assert found.manner is ReplyKind.ANSWERS


async def read(liar: Liar) -> None:
    context = liar.trusted()
    async with Etcd([liar.url], lambda: context, timeout=2.0) as store:
        with pytest.raises(StoreUnavailable):
            await store.get("/x")


async def write(liar: Liar) -> None:
    context = liar.trusted()
    async with Etcd([liar.url], lambda: context, timeout=PATIENCE) as store:
        with pytest.raises(StoreUnavailable):
            await store.put("/x", b"")


async def watch(liar: Liar) -> None:
    """Watch: a watch moves on to other endpoints for ever, so stop at the first one it leaves."""
    context = liar.trusted()
    async with Etcd([liar.url, "https://127.0.0.1:1"], lambda: context) as store:
        changes = store.watch("/x")
        waiting = asyncio.ensure_future(anext(changes))
        while store.endpoints[0] == liar.url and liar.taken < ENDLESS:  # noqa: ASYNC110 - its own
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])


async def patroni(liar: Liar) -> None:
    context = liar.trusted()
    async with PatroniClient(lambda: context, "u", lambda: Secret("p"), liar.port) as client:
        with pytest.raises(PatroniUnreachable):
            await client.node("127.0.0.1")


async def vcenter(liar: Liar) -> None:
    where = ConnectionSpec(
        hostname="127.0.0.1",
        port=liar.port,
        username="u",
        password=Secret("p"),
        ssl_certificate=liar.files.certificate.read_text(),
    )
    active = ActiveNode(api_certificate=b"another", bios_uuid="b", trust=None)
    with pytest.raises(ApiError):
        await verify_peer(CredentialsSpec(active_location=where), active, seconds=PATIENCE)


Reader = Callable[[Liar], Awaitable[None]]
READERS = pytest.mark.parametrize("reader", [page, knocking, read, write, watch, patroni, vcenter])
REFUSAL = b"HTTP/1.1 500 Oh\r\nContent-Type: application/json\r\n"
PACKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"


@READERS
@pytest.mark.parametrize("head", [Liar.head, REFUSAL], ids=["answer", "refusal"])
async def test_an_endless_answer_is_left(files: TlsFiles, reader: Reader, head: bytes) -> None:
    """The reader accepts as much as an honest answer may have, then closes the connection."""
    async with lying(files, head=head) as liar:
        async with asyncio.timeout(PATIENCE):
            await reader(liar)
        assert liar.taken < BORNE


@READERS
@pytest.mark.parametrize("body", [DEEP, OBJECT], ids=["list", "object"])
async def test_levels_without_end_are_no_answer(
    files: TlsFiles, reader: Reader, body: bytes
) -> None:
    """No reader fails with RecursionError."""
    async with lying(files, body=body) as liar:
        async with asyncio.timeout(PATIENCE):
            await reader(liar)


@pytest.mark.parametrize("reader", [read, write, watch, patroni])
async def test_a_packed_answer_is_not_unpacked(files: TlsFiles, reader: Reader) -> None:
    """We never ask for compression, and 50 kB may become 50 MB."""
    body = gzip.compress(b'{"x":"' + b"x" * (50 << 20) + b'"}')
    async with lying(files, head=PACKED, body=body) as liar:
        async with asyncio.timeout(PATIENCE):
            await reader(liar)


@pytest.mark.parametrize("value", [DEEP, OBJECT], ids=["list", "object"])
def test_what_the_store_brings_of_patroni_is_unknown_then(value: bytes) -> None:
    """No member is confirmed, and none has an address."""
    assert isinstance(read_sync(value), Unreadable)
    with pytest.raises(ValueError, match="cannot be read"):
        parse_member_address(value)


@pytest.mark.looptime
@pytest.mark.parametrize("value", [DEEP, OBJECT, b"[]", b"7", b'{"xlog":7,"timeline":"x"}'])
async def test_a_node_sees_on_whatever_its_patroni_says(
    monkeypatch: pytest.MonkeyPatch, value: bytes
) -> None:
    """What cannot be read is unknown."""
    cluster = ObservedCluster(monkeypatch)
    cluster.patroni = value
    seen = await cluster.observer.observe()
    assert seen.writable in {None, False}
    assert cluster.observer.known is not None
    assert (cluster.observer.known.timeline, cluster.observer.known.lsn) == (None, None)


@pytest.mark.parametrize("body", [DEEP, OBJECT, b"[]"])
def test_a_survey_goes_on(body: bytes) -> None:
    """Something answers there; its state is unknown."""
    assert describe_patroni(ProbeReply(ReplyKind.ANSWERS, body)) == ("Patroni",)
    assert listed(ProbeReply(ReplyKind.ANSWERS, body)) in (None, {})


def test_a_liar_names_no_crowd() -> None:
    """Each endpoint he names is asked three times: some are believed, not a thousand."""
    crowd = [
        {"name": "x", "peerURLs": [f"https://192.0.2.{n}:{m}"]} for n in range(250) for m in (1, 2)
    ]
    said = listed(ProbeReply(ReplyKind.ANSWERS, json.dumps(crowd).encode()))
    assert said is not None
    assert len(said) == MAX_MEMBERS
    assert listed(
        ProbeReply(ReplyKind.ANSWERS, b'[{"name":"x","peerURLs":["https://[x","https://a"]}]')
    ) == {
        "https://[x": "x",
        "https://a": "x",
    }
    assert places(IDENTITY, None, {"https://[x": "x"})
