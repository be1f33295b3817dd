"""The helper that holds the public address, when other programs of the machine ask it.

It is the only program with NET_ADMIN: whoever tricks it makes the machine answer for any address.
"""

import asyncio
import json
import os
import pwd
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.address_helper import helping
from tests.support.engine_config import DATA
from tests.support.waiting import until_async

from openvcha.node.address.interface.client import HelperLink
from openvcha.node.address.interface.helper_config import (
    HelperConfig,
    UnusableConfigError,
    config_for,
    encode_config,
    find_config,
    read_config,
)
from openvcha.node.address.interface.protocol import Command, Request
from openvcha.node.address.interface.server import MAX_CLIENTS
from openvcha.node.public_interface import PublicInterface
from openvcha.system.files.path_owners import CannotDropRoot

LATEST = 60.0
ACCOUNT = pwd.getpwnam("nobody")
CONFIG = {"interface": "eth0", "address": "192.0.2.10", "user": 1, "socket": "/run/x/a.sock"}
only_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can be another account too: run these tests as root"
)
CALLER = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as caller:
    caller.settimeout(60)
    caller.connect(sys.argv[1])
    try:
        caller.sendall(sys.argv[3].encode() + b"\\n")
        print(caller.recv(1 << 20))
    except ConnectionError:
        print(b"")
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a path in a folder that every account may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "helper.sock"


def request(
    do: Command = "acquire", interface: str = "eth0", address: str = "192.0.2.10"
) -> Request:
    """Return a request, by default one that is granted."""
    return Request(do=do, interface=interface, address=address, until=1e9)


async def ask_as(uid: int, path: Path) -> bytes:
    """Ask for the address as another account; return what it is told."""
    wanted = json.dumps(
        {"do": "acquire", "interface": "eth0", "address": "192.0.2.10", "until": 1e9}
    )
    caller = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CALLER, str(path), str(uid), wanted), stdout=subprocess.PIPE
    )
    out, _ = await caller.communicate()
    return out.strip()


@only_root
async def test_another_account_is_not_heard(place: Path) -> None:
    """Even where the file's permissions let it connect."""
    async with helping(place, uid=ACCOUNT.pw_uid + 1) as holder:
        os.chmod(place, 0o777)  # noqa: PTH101 - Path would count as blocking
        assert await ask_as(ACCOUNT.pw_uid, place) == b"b''"
        assert [do for do, _ in holder.asked] == ["release"]  # at the helper's start


@only_root
async def test_the_configured_account_is(place: Path) -> None:
    """It runs as the node does; and so is root."""
    async with helping(place, uid=ACCOUNT.pw_uid) as holder:
        os.chmod(place, 0o777)  # noqa: PTH101 - Path would count as blocking
        assert b'"held"' in await ask_as(ACCOUNT.pw_uid, place)
        await until_async(lambda: not holder.holds, LATEST)
        assert b'"held"' in await ask_as(0, place)


@pytest.mark.parametrize(
    ("interface", "address"),
    [
        ("eth1", "192.0.2.10"),
        ("eth0", "192.0.2.11"),
        ("eth0", "0.0.0.0"),
        ("eth0", "::ffff:192.0.2.10"),
        ("eth0", "192.0.2.10/0"),
        ("eth0", ""),
        ("eth0\n", "192.0.2.10"),
    ],
)
@pytest.mark.parametrize("do", ["acquire", "refresh", "release"])
async def test_no_other_address_or_interface(
    place: Path, do: Command, interface: str, address: str
) -> None:
    """The account that runs the node may ask for its own public address only."""
    async with helping(place) as holder:
        link = HelperLink(str(place))
        answer = await link.ask(request(do, interface, address))
        link.close()
        assert (answer.state, answer.holds) == ("cannot", False)
        assert "configured for" in answer.reason
        assert [one for one, _ in holder.asked] == ["release"]


GARBAGE = [
    b"\n",
    b"{}\n",
    b"[" * 900 + b"\n",
    b"x" * 5000 + b"\n",
    b"\xff\x00\n",
    b'{"do":"add","interface":"eth0","address":"192.0.2.10"}\n',
    b'{"do":"acquire","interface":"eth0","address":"192.0.2.10","until":1e999}\n',
    b'{"do":"acquire","interface":"eth0","address":"192.0.2.10","until":"far"}\n',
    b'{"do":"acquire","interface":"eth0","address":"192.0.2.10","prefix":0}\n',
]


@pytest.mark.parametrize("said", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_ends_the_connection(place: Path, said: bytes) -> None:
    """And nothing else: the next client is served."""
    async with helping(place) as holder:
        reader, writer = await asyncio.open_unix_connection(str(place))
        writer.write(said)
        answer = await asyncio.wait_for(reader.read(), LATEST)
        assert b"invalid request" in answer
        assert len(answer) < 1024
        writer.close()
        assert [do for do, _ in holder.asked] == ["release"]
        link = HelperLink(str(place))
        assert (await link.ask(request())).holds
        link.close()


async def test_a_flood_of_connections_leaves_the_holder_its_own(place: Path) -> None:
    """Who holds the address goes on refreshing it; surplus connections are closed."""
    async with helping(place):
        link = HelperLink(str(place))
        assert (await link.ask(request())).holds
        flood = [await asyncio.open_unix_connection(str(place)) for _ in range(50)]
        assert (await link.ask(request("refresh"))).holds
        ends = [asyncio.create_task(reader.read(1)) for reader, _ in flood]
        surplus = len(flood) - (MAX_CLIENTS - 1)
        await until_async(lambda: sum(end.done() for end in ends) == surplus, LATEST)
        for _, writer in flood:
            writer.close()
        await asyncio.gather(*ends, return_exceptions=True)
        assert (await link.ask(request("refresh"))).holds
        link.close()
        await asyncio.sleep(0)


async def test_a_flood_of_requests_is_answered_one_by_one(place: Path) -> None:
    """It neither fills memory nor delays the holder for long."""
    async with helping(place) as holder:
        link = HelperLink(str(place))
        assert (await link.ask(request())).holds
        _, flood = await asyncio.open_unix_connection(str(place))
        flood.write(b'{"do":"refresh","interface":"eth0","address":"192.0.2.10"}\n' * 5000)
        loop = asyncio.get_running_loop()
        for _ in range(5):
            asked = loop.time()
            assert (await link.ask(request("refresh"))).holds
            assert loop.time() - asked < LATEST / 10
        assert len(holder.asked) < 1000
        flood.transport.abort()
        link.close()
        await asyncio.sleep(0)


async def test_a_second_program_cannot_take_or_release_it(place: Path) -> None:
    """As when two services of one node run by mistake."""
    async with helping(place) as holder:
        first, second = HelperLink(str(place)), HelperLink(str(place))
        assert (await first.ask(request())).holds
        for do in ("acquire", "refresh", "release"):
            answer = await second.ask(request(do))
            assert (answer.state, answer.holds) == ("cannot", False)
        second.close()
        await asyncio.sleep(0.05)
        assert holder.holds
        first.close()
        await until_async(lambda: not holder.holds, LATEST)


async def test_who_reads_no_answers_is_given_up(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers would fill the helper's memory."""
    monkeypatch.setattr("openvcha.node.address.interface.server.PACE_SECONDS", 0)
    monkeypatch.setattr("openvcha.node.address.interface.server.SEND_SECONDS", 0.05)
    async with helping(place):
        line = b'{"do":"refresh","interface":"eth1","address":"192.0.2.10"}\n'
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.setblocking(False)
            deaf.connect(str(place))
            async with asyncio.timeout(LATEST):
                with pytest.raises(ConnectionError):
                    await asyncio.get_running_loop().sock_sendall(deaf, line * 100_000)


@given(data=st.binary(max_size=300))
def test_no_configuration_raises_another_error(data: bytes) -> None:
    """Whatever is in the file."""
    if os.geteuid() != 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_bytes(data)
        with pytest.raises(UnusableConfigError):
            read_config(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"address": "127.0.0.1"}, "no address of an interface"),
        ({"address": "224.0.0.1"}, "no address of an interface"),
        ({"address": "::"}, "no address of an interface"),
        ({"address": "a.example"}, "address"),
        ({"prefix": 33}, "prefix"),
        ({"prefix": 0}, "prefix"),
        ({"interface": "eth0 up"}, "interface"),
        ({"lifetime": 60}, "lifetime"),
        ({"socket": "run/a.sock"}, "absolute"),
        ({"more": 1}, "more"),
    ],
)
@only_root
def test_an_unusable_configuration_is_refused(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    """Before anything is changed."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(CONFIG | change))
    with pytest.raises(UnusableConfigError, match=reason):
        read_config(path)


@only_root
def test_a_good_configuration_is_read(tmp_path: Path) -> None:
    """And found by the node that it is for."""
    (tmp_path / "b.json").write_text(json.dumps(CONFIG | {"node": "/srv/b"}))
    (tmp_path / "c.json").write_text(json.dumps(CONFIG | {"node": "/srv/c"}))
    found = find_config(Path("/srv/c"), tmp_path)
    assert found == tmp_path / "c.json"
    assert find_config(Path("/srv/d"), tmp_path) is None
    assert find_config(Path("/srv/d"), tmp_path / "none") is None
    assert isinstance(read_config(found), HelperConfig)


@only_root
def test_the_configuration_of_a_node_is_read_again(tmp_path: Path) -> None:
    """What `node.json` says of the address is what the helper is told."""
    public = PublicInterface(interface="eth1", prefix=24, lifetime=4, helper="/run/x/b.sock")
    own = msgspec.structs.replace(DATA, public=public, public_address="198.51.100.7")
    config = config_for(own, Path("/srv/b"), "nobody")
    (tmp_path / "b.json").write_bytes(encode_config(config))
    found = read_config(tmp_path / "b.json")
    assert found == config
    assert found.uid() == ACCOUNT.pw_uid
    held = found.held_address()
    assert (held.interface, str(held.address), held.prefix) == ("eth1", "198.51.100.7", 24)
    with pytest.raises(ValueError, match="not on an interface"):
        config_for(DATA, Path("/srv/b"), 0)


@only_root
@pytest.mark.parametrize("trick", ["owner", "mode", "link", "fifo", "folder"])
def test_only_root_can_have_written_the_configuration(tmp_path: Path, trick: str) -> None:
    """Else the node's account could choose any address, on any interface."""
    folder = tmp_path / "address"
    folder.mkdir()
    path = folder / "a.json"
    path.write_text(json.dumps(CONFIG))
    read_config(path)
    match trick:
        case "owner":
            os.chown(path, ACCOUNT.pw_uid, -1)
        case "mode":
            path.chmod(0o664)
        case "link":
            path.rename(tmp_path / "real.json")
            path.symlink_to(tmp_path / "real.json")
        case "fifo":
            path.unlink()
            os.mkfifo(path)
        case "folder":
            os.chown(folder, ACCOUNT.pw_uid, -1)
    refused = {"link": OSError, "folder": CannotDropRoot}.get(trick, UnusableConfigError)
    reason = {"fifo": "not a regular file", "link": "symbolic links"}.get(trick)
    with pytest.raises(refused, match=reason):
        read_config(path)
