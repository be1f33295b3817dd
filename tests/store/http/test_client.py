"""The HTTP client for other programs: kept connections, and hostile answers."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.edge import TlsFiles, make_tls
from tests.support.serving import serving as serving_at
from tests.support.waiting import until_async

from openvcha.node.http import ask
from openvcha.node.security.certificates import new_authority, node_certificate
from openvcha.store.http.client import (
    HttpError,
    NotSentError,
    Patience,
    Reply,
    TlsClient,
    TooLongError,
    read_lines,
    split,
)
from openvcha.store.http.tls_sessions import MOST_SERVERS, RESUMED_SECONDS, TlsSessions
from openvcha.system.network.keepalive import IDLE_SECONDS

PATIENT = Patience(connect=30.0, response=30.0)
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MOST = 1000


@dataclass
class Server:
    """A server that sends each of ``says`` in turn, then repeats the last; None: no response."""

    says: list[bytes | None]
    context: ssl.SSLContext | None = None
    closes: bool = False
    resumed: list[bool] = field(default_factory=list)
    """Of each TLS connection: whether it went on from another one's session."""
    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    accepted: int = 0
    ended: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.append(writer)
        if spoken := writer.get_extra_info("ssl_object"):
            self.resumed.append(spoken.session_reused)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
                if said is not None:
                    writer.write(said)
                    await writer.drain()
                if self.closes:
                    break
        writer.close()
        self.ended += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        async with serving_at(self.serve, tls=self.context) as port:
            self.url = f"http{'s' if self.context else ''}://127.0.0.1:{port}"
            yield self


def no_tls() -> ssl.SSLContext:
    raise AssertionError("nobody has asked for TLS")


@contextlib.asynccontextmanager
async def talking(
    *says: bytes | None, closes: bool = False, most_idle: int = 16
) -> AsyncIterator[tuple[Server, TlsClient]]:
    client = TlsClient(no_tls, most_idle)
    async with Server(list(says), closes=closes).running() as server:
        yield server, client
        await client.aclose()


async def get(server: Server, client: TlsClient, patience: Patience = PATIENT) -> Reply:
    return await client.request("GET", f"{server.url}/x", MOST, patience)


async def until(condition: Callable[[], bool]) -> None:
    await until_async(condition, 30, pause=0.001)


async def test_one_connection_carries_one_request_after_the_other() -> None:
    """A handshake costs more than ten requests."""
    async with talking(FINE) as (server, client):
        for _ in range(5):
            assert await get(server, client) == Reply(200, b"ok")
        assert server.accepted == 1


async def test_the_kernel_looks_after_a_server_that_is_lost() -> None:
    """A watch may be silent for minutes, and would not notice."""
    async with talking(FINE) as (server, client):
        await get(server, client)
        (kept,) = client._idle
        there = kept._writer.get_extra_info("socket")
        assert there.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == IDLE_SECONDS


async def test_requests_at_the_same_time_have_a_connection_each() -> None:
    """And only as many are kept as may idle."""
    async with talking(FINE, most_idle=2) as (server, client):
        await asyncio.gather(*(get(server, client) for _ in range(5)))
        assert server.accepted == 5
        await until(lambda: server.ended == 3)


async def test_a_connection_that_its_server_has_ended_is_not_used() -> None:
    """The outcome of a write sent on it would be unknown."""
    async with talking(FINE) as (server, client):
        await get(server, client)
        server.writers[0].close()
        # Nothing here lets the loop see the end before the next request looks at the socket.
        await server.writers[0].wait_closed()
        assert await get(server, client) == Reply(200, b"ok")
        assert server.accepted == 2


async def test_a_server_may_close_after_each_answer() -> None:
    """As HTTP/1.0 does; such a connection is not kept."""
    old = b"HTTP/1.0 200 OK\r\n\r\nto the end"
    async with talking(old, closes=True) as (server, client):
        assert await get(server, client) == Reply(200, b"to the end")
        assert await get(server, client) == Reply(200, b"to the end")
        assert server.accepted == 2


async def test_a_request_says_what_it_accepts() -> None:
    """Without the header etcd takes a request for the owner of its gateway's certificate."""
    async with talking(FINE) as (server, client):
        body, token = b"{}", {"Authorization": "t"}
        await client.request("POST", server.url, MOST, PATIENT, content=body, headers=token)
        head = server.heads[0].lower()
        assert head.startswith(b"post / http/1.1\r\n")
        for line in (b"accept: application/json", b"content-length: 2", b"authorization: t"):
            assert line + b"\r\n" in head


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3e9\r\n" + b"x" * 1001,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_what_is_too_long_is_left(said: bytes) -> None:
    """Compressed answers, too: they have no bound."""
    async with talking(said) as (server, client):
        with pytest.raises(TooLongError):
            await get(server, client)
        await until(lambda: server.ended == 1)


@pytest.mark.parametrize(
    "said",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"",
    ],
)
async def test_what_is_no_answer_is_told(said: bytes) -> None:
    """With one kind of error, as the request may have been carried out."""
    async with talking(said, closes=True) as (server, client):
        with pytest.raises(HttpError) as failed:
            await get(server, client)
        assert not isinstance(failed.value, NotSentError)


async def test_silence_ends() -> None:
    """Nothing waits on the connection any longer."""
    async with talking(None) as (server, client):
        with pytest.raises(HttpError, match=r"no response within 0\.05 seconds"):
            await get(server, client, Patience(30.0, 0.05))
        await until(lambda: server.ended == 1)


async def test_who_is_canceled_leaves_no_connection() -> None:
    """Its answer would be taken for that of the next request."""
    async with talking(None) as (server, client):
        asking = asyncio.create_task(get(server, client))
        await until(lambda: bool(server.heads))
        asking.cancel()
        await asyncio.wait([asking])
        await until(lambda: server.ended == 1)


@pytest.mark.parametrize("headers", [{"Authorization": "a\r\nb"}, {"Authorization": "\u2026"}])
async def test_what_cannot_be_written_is_not_sent(headers: dict[str, str]) -> None:
    """A token comes from whoever answers as the store."""
    async with talking(FINE) as (server, client):
        with pytest.raises(NotSentError):
            await client.request("GET", server.url, MOST, PATIENT, headers=headers)
        assert not server.heads


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://a..b:80", "h:80", "http://h:99999"])
async def test_without_a_connection_nothing_is_sent(url: str) -> None:
    """A write may then be tried elsewhere."""
    with pytest.raises(NotSentError):
        await TlsClient(no_tls).request("GET", url, MOST, PATIENT)


async def test_lines_come_as_they_come() -> None:
    """A watch is an endless answer; leaving it closes its connection."""
    begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n2\r\nc\n\r\n"
    async with talking(begun) as (server, client):
        async with client.stream("POST", server.url, PATIENT) as answer:
            lines = read_lines(answer.pieces, MOST)
            assert [await anext(lines), await anext(lines)] == [b"a", b"bc"]
            await lines.aclose()
        await until(lambda: server.ended == 1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls(tmp_path_factory.mktemp("tls"))


async def test_the_context_of_the_moment_counts(files: TlsFiles) -> None:
    """An older connection is not used again, though it is still open."""
    serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serves.load_cert_chain(files.certificate, files.key)
    contexts = [ssl.create_default_context(cafile=str(files.authority))]
    client = TlsClient(lambda: contexts[-1])
    async with Server([FINE], serves).running() as server:
        for _ in range(2):
            assert await get(server, client) == Reply(200, b"ok")
        assert server.accepted == 1
        contexts.append(ssl.create_default_context(cafile=str(files.authority)))
        assert await get(server, client) == Reply(200, b"ok")
        assert server.accepted == 2
        contexts.append(ssl.create_default_context())
        with pytest.raises(NotSentError, match="certificate verify failed"):
            await get(server, client)
        await client.aclose()


def node_tls(directory: Path) -> TlsFiles:
    """Create another authority, and a node's certificate for clients and servers."""
    authority = new_authority()
    pair = node_certificate(authority, "a-1", "127.0.0.1")
    made = TlsFiles(*(directory / name for name in ("ca.crt", "node.crt", "node.key")))
    made.authority.write_bytes(authority.certificate)
    made.certificate.write_bytes(pair.certificate)
    made.key.write_bytes(pair.key)
    return made


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return node_tls(tmp_path_factory.mktemp("node"))


def serving(node: TlsFiles) -> ssl.SSLContext:
    """Return a server's context that requires a client certificate, as those of the nodes do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(node.certificate, node.key)
    context.load_verify_locations(node.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def showing(node: TlsFiles) -> ssl.SSLContext:
    """Return the context of a client with a certificate."""
    context = ssl.create_default_context(cafile=str(node.authority))
    context.load_cert_chain(node.certificate, node.key)
    return context


async def test_the_next_connection_goes_on_from_the_session(node: TlsFiles) -> None:
    """But not one with another context: that presents its new certificate."""
    contexts = [showing(node)]
    client = TlsClient(lambda: contexts[-1])
    async with Server([FINE], serving(node), closes=True).running() as server:
        for _ in range(3):
            assert await get(server, client) == Reply(200, b"ok")
        contexts.append(showing(node))
        for _ in range(2):
            assert await get(server, client) == Reply(200, b"ok")
        await client.aclose()
    assert server.resumed == [False, True, True, False, True]


async def test_a_small_request_goes_on_from_the_session_too(node: TlsFiles) -> None:
    """If the caller keeps one; otherwise each connection has a full handshake."""
    sessions, context = TlsSessions(), showing(node)
    async with Server([FINE], serving(node), closes=True).running() as server:
        for kept in (sessions, sessions, None):
            assert (await ask(server.url, "/", context, 30.0, kept) or b"").endswith(b"ok")
    assert server.resumed == [False, True, False]


async def test_a_server_that_does_not_know_the_session_is_shown_all(node: TlsFiles) -> None:
    """It was restarted, or has other certificates, which are then verified."""
    client = TlsClient(lambda: context)
    context = showing(node)
    async with Server([FINE], serving(node), closes=True).running() as server:
        assert await get(server, client) == Reply(200, b"ok")
        url = server.url
    port = split(url)[0].port
    other = Server([FINE], serving(node), closes=True)
    async with serving_at(other.serve, port=port, tls=other.context):
        reply = await client.request("GET", url, MOST, PATIENT)
    assert reply == Reply(200, b"ok")
    assert other.resumed == [False]
    await client.aclose()


async def test_a_thief_of_the_address_does_not_profit(node: TlsFiles, tmp_path: Path) -> None:
    """Another authority's certificate is refused, though the session is kept."""
    client = TlsClient(lambda: context)
    context = showing(node)
    async with Server([FINE], serving(node), closes=True).running() as server:
        assert await get(server, client) == Reply(200, b"ok")
        url = server.url
    thief = Server([FINE], serving(node_tls(tmp_path)), closes=True)
    port = split(url)[0].port
    async with serving_at(thief.serve, port=port, tls=thief.context):
        with pytest.raises(NotSentError, match="certificate verify failed"):
            await client.request("GET", url, MOST, PATIENT)
    await client.aclose()


async def test_certificates_are_shown_again_after_a_time(node: TlsFiles) -> None:
    """However often the session was used: otherwise an expired certificate would still work."""
    now = [0.0]
    sessions, context = TlsSessions(lambda: now[0]), showing(node)
    async with Server([FINE], serving(node), closes=True).running() as server:
        for moment in (0.0, 0.4, 0.8, 1.2, 1.3):
            now[0] = moment * RESUMED_SECONDS
            assert await ask(server.url, "/", context, 30.0, sessions)
    assert server.resumed == [False, True, True, False, True]


async def test_sessions_with_a_few_servers_are_kept(node: TlsFiles) -> None:
    """Servers come and go for years."""
    sessions, context = TlsSessions(), showing(node)
    async with Server([FINE], serving(node), closes=True).running() as server:
        port = split(server.url)[0].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read(1)
        for number in range(MOST_SERVERS + 1):
            sessions.note(("127.0.0.1", number), context, writer.get_extra_info("ssl_object"))
        writer.transport.abort()
    assert sessions.resuming(("127.0.0.1", 0), context) is context
    assert sessions.resuming(("127.0.0.1", MOST_SERVERS), context) is not context


async def test_a_deadline_in_the_handshake_leaves_no_connection(files: TlsFiles) -> None:
    """However far it had got: each would hold a descriptor of the server for a minute."""
    context = ssl.create_default_context(cafile=str(files.authority))
    begun: list[int] = []
    ended: list[int] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(1)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()
        ended.append(1)

    client = TlsClient(lambda: context)
    hasty = [Patience(thousandths / 1000, 30.0) for thousandths in range(60)]
    async with serving_at(silent) as port:
        url = f"https://127.0.0.1:{port}"
        asked = [client.request("GET", url, MOST, each) for each in hasty]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(one) for one in found} == {NotSentError}
        await until(lambda: bool(begun) and len(ended) == len(begun))


def test_urls_are_split() -> None:
    """As etcd's members announce theirs."""
    place, target = split("https://[fd00::1]:2379/v3/kv/range?a=b")
    assert (place.host, place.port, place.name) == ("fd00::1", 2379, "[fd00::1]:2379")
    assert (place.secure, target) == (True, "/v3/kv/range?a=b")
    assert split("http://h")[0].port == 80
    for wrong in ("ftp://h", "h:80", "http://"):
        with pytest.raises(ValueError, match="not an HTTP URL"):
            split(wrong)
