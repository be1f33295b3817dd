"""Asking all members over real connections: who is silent, hangs, is a stranger, or answers."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.support.nodes import Lab, Node
from tests.support.serving import Handler, serving
from tests.support.simulated.kept_cluster import IDENTITY, kept

from openvcha.node.local_records.cluster import save_kept
from openvcha.node.recovery import survey as asking
from openvcha.node.recovery.standalone_rules import standalone_refusal
from openvcha.node.recovery.survey import PUBLIC, Place, Survey, places, survey
from openvcha.node.security.tls import NodeTls
from openvcha.store.etcd.member_pages import HEALTH

MEMBERS = b'[{"id":1,"peerURLs":["https://%s:2380"],"name":"later"}]'
Pages = dict[str, bytes]


class Town:
    """One node that asks, and servers at others' addresses with the cluster's certificates."""

    def __init__(self, lab: Lab, stack: AsyncExitStack) -> None:
        self.lab = lab
        self._stack = stack
        self.own = lab.node("own", 1, {"own": 1, "birth": 2})

    async def asked(self) -> Survey:
        layout = self.own.layout
        return await survey(self.own.identity, layout, NodeTls(layout), public=True)

    async def serves(self, number: int, port: int, pages: Pages, node: Node | None = None) -> None:
        """Serve at an address of the lab as ``node`` of its cluster (a new one)."""
        node = node or self.lab.node(f"n{number}-{port}", number, {})
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=node.layout.ca)
        context.load_cert_chain(node.layout.certificate, node.layout.key)
        context.verify_mode = ssl.CERT_REQUIRED

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            path = (await reader.readline()).split()[1].decode()
            if path in pages:
                writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + pages[path])
            writer.close()

        await self._listens(answer, number, port, context)

    async def hangs(self, number: int, port: int) -> None:
        """Accept connections, as the machine of a frozen program does, and send nothing."""
        await self._listens(lambda *_: None, number, port, None)

    async def _listens(
        self, answer: Handler, number: int, port: int, tls: ssl.SSLContext | None
    ) -> None:
        place = self.lab.address(number)
        await self._stack.enter_async_context(serving(answer, place, port, tls=tls))


@pytest.fixture
async def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    monkeypatch.setattr(asking, "ASK_SECONDS", 0.5)  # has no quorum
    async with AsyncExitStack() as stack:
        yield Town(Lab(tmp_path), stack)


def words(found: Survey) -> dict[str, tuple[str, ...]]:
    return {said.place.name: said.words for said in found.said}


def test_all_that_were_ever_known_are_places() -> None:
    """From the node's initial identity, from its records, and from its own etcd."""
    found = places(IDENTITY, kept(), {"https://[fd00::9]:2380": "later", "junk": ""})
    assert set(found) == {
        Place("127.1.1.2", "b-1"),
        Place("127.1.1.3", "w-1"),
        Place("127.1.1.4", "b"),
        Place("127.1.1.5", "w"),
        Place("fd00::9", "later"),
    }


async def test_nobody_there_is_silence(town: Town) -> None:
    """And no reason against it, which does not mean that they are gone."""
    found = await town.asked()
    assert words(found) == {"birth": (), PUBLIC: ()}
    assert (found.quorum, found.listed, standalone_refusal(found)) == (None, None, None)


async def test_a_member_that_is_only_kept_is_asked(town: Town) -> None:
    """The cluster's other nodes were all replaced since this one was created."""
    later = Place(town.lab.address(4), "b")
    members = kept().members
    moved = [
        type(members[1])(
            member="b-2",
            name="b",
            peer_url=f"https://{later.address}:2380",
            client_url=f"https://{later.address}:2379",
        )
    ]
    save_kept(town.own.layout, kept(own="own", members=tuple(moved)))
    await town.serves(4, 2379, {HEALTH: b'{"health":"false"}'})
    await town.serves(4, 8008, {"/patroni": b'{"role":"replica","state":"\\u001b[2J"}'})
    found = await town.asked()
    assert words(found)["b"] == ("etcd without a quorum", "Patroni: replica, ?[2J")
    assert "b (" in str(standalone_refusal(found))


async def test_a_member_that_only_the_own_etcd_remembers_is_asked(town: Town) -> None:
    """It answers peers while it waits for quorum, and no client."""
    await town.serves(1, 2380, {"/members": MEMBERS % town.lab.address(5).encode()}, town.own)
    await town.serves(5, 2380, {"/members": MEMBERS % town.lab.address(5).encode()})
    found = await town.asked()
    assert words(found)["later"] == ("etcd, waiting for a quorum",)
    assert "later" in str(standalone_refusal(found))


async def test_who_hangs_or_takes_us_for_a_stranger_is_not_silent(
    town: Town, tmp_path: Path
) -> None:
    """A frozen node may thaw; one that rotated its credentials has gone on without us."""
    await town.hangs(2, 2379)
    stranger = Lab(tmp_path / "elsewhere").node("stranger", 2, {})
    await town.serves(2, 8008, {"/patroni": b"{}"}, stranger)
    found = await town.asked()
    assert words(found)["birth"] == (
        "etcd, which accepts connections but does not respond",
        "Patroni, but one side does not trust the other's certificate",
    )
    assert standalone_refusal(found)


async def test_who_serves_at_the_public_address_is_found_by_a_node_that_knows_nobody(
    town: Town,
) -> None:
    """All members it knew are gone; others serve at other addresses."""
    await town.hangs(100, 8443)
    assert "its API" in str(standalone_refusal(await town.asked()))
