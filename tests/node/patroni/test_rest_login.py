"""Patroni's REST API says whether Patroni goes by a password."""

import asyncio
import ssl
from base64 import b64encode

import pytest
from tests.support.serving import serving

from openvcha.api.secret import Secret
from openvcha.node.patroni.config import REST_USER
from openvcha.node.patroni.rest_login import accepts_password

TOKEN = b64encode(f"{REST_USER}:new".encode())


async def patroni(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond as Patroni does; with a wrong password as it does to a stranger."""
    head = await reader.readuntil(b"\r\n\r\n")
    right = head.startswith(b"PATCH /config ") and b"Basic " + TOKEN + b"\r\n" in head
    status = b"200 OK" if right else b"401 Unauthorized"
    writer.write(b"HTTP/1.0 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(("password", "accepted"), [("new", True), ("old", False)])
async def test_only_the_password_that_it_goes_by_is_accepted(password: str, accepted: bool) -> None:
    """A request that changes nothing tells."""
    async with serving(patroni) as port:
        place = f"http://127.0.0.1:{port}"
        found = await accepts_password(place, ssl.create_default_context, Secret(password))
    assert found is accepted


async def test_a_patroni_that_does_not_respond_accepts_nothing() -> None:
    """It is restarting, or asks a store that does not respond."""
    place = "http://127.0.0.1:1"
    assert not await accepts_password(place, ssl.create_default_context, Secret("new"))
