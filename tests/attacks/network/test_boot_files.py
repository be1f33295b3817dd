"""Whoever reads a boot file, or stands between a new node and the API, gets no more than a node."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.attackers.man_in_the_middle import OWN, PASS, middle, own_certificate, server_tls
from tests.support.join_api import TOKEN, JoinApi, serving_joins

from openvcha.daemon.bootstrap import bootstrap
from openvcha.infrastructure.boot import BOOT_FILE
from openvcha.node import join_client
from openvcha.node.identity import IDENTITY
from openvcha.node.layout import NODE_KEY

CONNECTIONS = 8


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JoinApi]:
    monkeypatch.setattr(join_client, "RETRY_SECONDS", 0.0)
    async with serving_joins(tmp_path) as served:
        yield served


def gets_through(plan: tuple[str, ...], chain: bool) -> bool:
    """Return whether a node joins: by two connections in turn, one for the authority's certificate.

    With ``chain``, the man shows that certificate too, which is public.
    """
    connections = iter((*plan, OWN))
    return any(next(connections, OWN) == PASS for first in connections if first == PASS or chain)


@pytest.mark.parametrize("chain", [False, True])
async def test_a_man_in_the_middle_never_sees_the_token(
    api: JoinApi, tmp_path: Path, chain: bool
) -> None:
    """Whichever connections he answers himself, also with the authority's public certificate."""
    own_certificate(tmp_path)
    if chain:
        both = (tmp_path / "middle.crt").read_bytes() + api.tls.authority.read_bytes()
        (tmp_path / "middle.crt").write_bytes(both)
    port = int(api.url.rpartition(":")[2])
    plans = [plan for plan in itertools.product((PASS, OWN), repeat=3) if OWN in plan]
    for number, plan in enumerate(plans):
        node = tmp_path / f"node-{number}"
        async with middle(port, (*plan, OWN), server_tls(tmp_path)) as (man, his):
            api.prepare(node, join=(f"https://127.0.0.1:{his}",))
            stop = asyncio.Event()
            running = asyncio.create_task(bootstrap(node, stop))
            async with asyncio.timeout(60):
                while not running.done() and man.connections < CONNECTIONS:  # noqa: ASYNC110 - the man's
                    await asyncio.sleep(0.001)
            stop.set()
            joined = await running
        assert TOKEN.encode() not in man.read
        assert joined == gets_through(plan, chain)
        assert (node / IDENTITY).exists() == joined
        for call in api.calls:
            assert (node / NODE_KEY).read_text() not in str(call)


async def test_who_only_passes_on_gets_no_key(api: JoinApi, tmp_path: Path) -> None:
    """The attack above fails because of the authority, not because nothing gets through."""
    node = tmp_path / "node"
    port = int(api.url.rpartition(":")[2])
    own_certificate(tmp_path)
    async with middle(port, (PASS,), server_tls(tmp_path)) as (man, his):
        api.prepare(node, join=(f"https://127.0.0.1:{his}",))
        assert await bootstrap(node, asyncio.Event())
    assert man.read == b""
    assert (node / IDENTITY).exists()
    assert not (node / BOOT_FILE).exists()
