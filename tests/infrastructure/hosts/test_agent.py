"""What a host does for the data nodes: only to directories that it made for them."""

import json
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.two_hosts import QUICK, stand_in_agent

from openvcha.api.errors import ApiError, ErrorType
from openvcha.infrastructure.hosts import orders
from openvcha.infrastructure.hosts.agent import HALF, NODE_FILE, Agent, responds
from openvcha.infrastructure.hosts.orders import DATASTORE_MARK, MARK, Order, Place, VmState
from openvcha.infrastructure.interface import Power


@pytest.fixture
def agent() -> Agent:
    return stand_in_agent(replace(QUICK, busy=0.2))


@pytest.fixture
async def place(agent: Agent, tmp_path: Path) -> Place:
    await ask(agent, orders.UseDatastore(directory=str(tmp_path), first=True))
    return Place(directory=str(tmp_path / "vm"), token="token", name="vm")


async def ask(agent: Agent, order: Order, type_: Any = None) -> Any:
    """Send an order as a data node does, and return its result. Raises its ApiError."""
    return orders.result_of(await agent.answer(orders.encode_order(order)), type_)


async def state(agent: Agent, place: Place) -> VmState:
    states: list[VmState] = await ask(agent, orders.Observe(places=(place,)), list[VmState])
    return states[0]


async def test_a_vm_is_made_started_stopped_and_deleted(agent: Agent, place: Place) -> None:
    """Each order may be repeated, and each look says what is."""
    directory = Path(place.directory)
    assert await state(agent, place) == VmState(power=Power.GONE)
    for _ in range(2):
        await ask(agent, orders.Make(place=place, boot=b"{}"))
        assert await state(agent, place) == VmState(power=Power.OFF, complete=True)
    assert (mode(directory), mode(directory / "boot.json")) == (0o700, 0o600)
    for _ in range(2):
        await ask(agent, orders.PowerOn(place=place))
        assert (await state(agent, place)).power is Power.ON
    for _ in range(2):
        await ask(agent, orders.PowerOff(place=place))
        assert (await state(agent, place)).power is Power.OFF
    await ask(agent, orders.PowerOn(place=place))
    for _ in range(2):
        await ask(agent, orders.Delete(place=place))
        assert await state(agent, place) == VmState(power=Power.GONE)
    assert entries(directory.parent) == {DATASTORE_MARK}


async def test_a_node_gets_no_second_token(agent: Agent, place: Place) -> None:
    """A creation that is continued after a crash finds that it has joined."""
    directory = Path(place.directory)
    await ask(agent, orders.Make(place=place, boot=b"{}"))
    (directory / "boot.json").rename(directory / "node.json")
    await ask(agent, orders.Make(place=place, boot=b"{}"))
    assert not (directory / "boot.json").exists()
    assert (await state(agent, place)).complete


async def test_half_a_creation_is_not_complete(agent: Agent, place: Place) -> None:
    """A crash between the mark and the boot file."""
    await ask(agent, orders.Make(place=place, boot=b"{}"))
    (Path(place.directory) / "boot.json").unlink()
    assert await state(agent, place) == VmState(power=Power.OFF)


def entries(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def occupied(directory: Path, kind: str) -> Path:
    """Let something be where the VM is to be, and return the path of a file in it."""
    elsewhere = directory.with_name("elsewhere")
    elsewhere.mkdir()
    match kind:
        case "files":
            directory.mkdir()
        case "link":
            directory.symlink_to(elsewhere)
        case "file":
            directory.write_text("")
            return elsewhere / "kept"
    return directory / "kept"


@pytest.mark.parametrize("kind", ["files", "link", "file", "other VM"])
async def test_what_is_not_ours_is_left_alone(agent: Agent, place: Place, kind: str) -> None:
    """A wrong path in the inventory, or a forged one, costs nobody his data."""
    kept = occupied(Path(place.directory), kind)
    if kind == "other VM":
        other = Place(directory=place.directory, token="other", name="other")
        await ask(agent, orders.Make(place=other))
    kept.write_text("mine")
    for order in (
        orders.Make(place=place, boot=b"{}"),
        orders.WriteFiles(place=place, files={"kept": b"theirs"}),
        orders.PowerOn(place=place),
        orders.ReadFile(place=place, path="kept"),
    ):
        with pytest.raises(ApiError) as refused:
            await ask(agent, order)
        assert refused.value.error_type in {ErrorType.ALREADY_EXISTS, ErrorType.NOT_FOUND}
    await ask(agent, orders.PowerOff(place=place))
    await ask(agent, orders.Delete(place=place))
    assert kept.read_text() == "mine"
    assert (await state(agent, place)).power is Power.GONE


async def test_another_vm_at_the_same_place_keeps_running(agent: Agent, place: Place) -> None:
    """An order that comes late, for a VM that was replaced there, stops nothing."""
    other = Place(directory=place.directory, token="other", name="other")
    await ask(agent, orders.Make(place=other))
    await ask(agent, orders.PowerOn(place=other))
    await ask(agent, orders.PowerOff(place=place))
    await ask(agent, orders.Delete(place=place))
    assert (await state(agent, place)).power is Power.GONE
    assert (await state(agent, other)).power is Power.ON
    await ask(agent, orders.Delete(place=other))


async def test_a_node_that_an_administrator_made_keeps_running(agent: Agent, place: Place) -> None:
    """It has no mark; a creation at its place is refused, and undone without touching it."""
    directory = Path(place.directory)
    await ask(agent, orders.Make(place=place))
    await ask(agent, orders.PowerOn(place=place))
    mark = (directory / MARK).read_bytes()
    (directory / MARK).unlink()
    (directory / NODE_FILE).write_text("{}")
    new = Place(directory=place.directory, token="new", name="new")
    with pytest.raises(ApiError) as refused:
        await ask(agent, orders.Make(place=new, boot=b"{}"))
    assert refused.value.error_type is ErrorType.ALREADY_EXISTS
    await ask(agent, orders.PowerOff(place=new))
    await ask(agent, orders.Delete(place=new))
    assert (await state(agent, new)).power is Power.GONE
    (directory / MARK).write_bytes(mark)
    assert (await state(agent, place)).power is Power.ON
    await ask(agent, orders.Delete(place=place))


async def test_an_interrupted_deletion_is_finished(
    agent: Agent, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the mark went first; the node's keys and data must not stay."""
    await ask(agent, orders.Make(place=place))
    (Path(place.directory) / "secrets.json").write_text("{}")

    def interrupted(path: Path, **_: object) -> None:
        (path / MARK).unlink()
        raise OSError("the host loses power")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(ApiError):
            await ask(agent, orders.Delete(place=place))
    await ask(agent, orders.Delete(place=place))
    assert entries(Path(place.directory).parent) == {DATASTORE_MARK}


def crashed_before_the_mark(directory: Path) -> None:
    directory.mkdir()
    (directory / HALF).write_text("{")


async def test_a_crash_before_the_mark_blocks_no_name(agent: Agent, place: Place) -> None:
    """The creation is continued, or undone without a rest."""
    directory = Path(place.directory)
    crashed_before_the_mark(directory)
    await ask(agent, orders.Delete(place=place))
    crashed_before_the_mark(directory)
    await ask(agent, orders.Make(place=place))
    assert (await state(agent, place)).power is Power.OFF
    await ask(agent, orders.Delete(place=place))
    assert entries(directory.parent) == {DATASTORE_MARK}


async def test_programs_that_outlive_their_directory_are_no_vm_that_is_gone(
    agent: Agent, place: Place
) -> None:
    """They may still serve; a power-off ends them."""
    directory = Path(place.directory)
    await ask(agent, orders.Make(place=place))
    await ask(agent, orders.PowerOn(place=place))
    (directory / MARK).unlink()
    assert (await state(agent, place)).power is Power.ON
    await ask(agent, orders.PowerOff(place=place))
    assert (await state(agent, place)).power is Power.GONE


async def test_files_are_written_to_a_vm_that_is_off(agent: Agent, place: Place) -> None:
    """All or none, below its directory, readable by nobody else."""
    await ask(agent, orders.Make(place=place))
    files = {"a/b": b"\0\xff", "c": b""}
    await ask(agent, orders.WriteFiles(place=place, files=files))
    assert await ask(agent, orders.ReadFile(place=place, path="a/b"), bytes) == b"\0\xff"
    with pytest.raises(ApiError) as refused:
        await ask(agent, orders.WriteFiles(place=place, files={"d": b"", "../e": b""}))
    assert refused.value.error_type is ErrorType.INVALID_ARGUMENT
    assert not (Path(place.directory) / "d").exists()
    await ask(agent, orders.PowerOn(place=place))
    with pytest.raises(ApiError) as refused:
        await ask(agent, orders.WriteFiles(place=place, files=files))
    assert refused.value.error_type is ErrorType.NOT_ALLOWED_IN_CURRENT_STATE
    await ask(agent, orders.Delete(place=place))


async def test_a_datastore_that_is_not_there_is_not_made(agent: Agent, tmp_path: Path) -> None:
    """Its disk may not be mounted: the node would fill another one."""
    place = Place(directory=str(tmp_path / "missing" / "vm"), token="t", name="vm")
    with pytest.raises(ApiError) as refused:
        await ask(agent, orders.Make(place=place))
    assert refused.value.error_type is ErrorType.NOT_FOUND
    assert not (tmp_path / "missing").exists()


async def test_a_disk_that_is_not_mounted_settles_no_deletion(agent: Agent, place: Place) -> None:
    """Its mount point is an empty directory: the node and its secrets are on the disk."""
    await ask(agent, orders.Make(place=place))
    datastore = Path(place.directory).parent
    disk = datastore.rename(datastore.with_name("disk"))
    datastore.mkdir()
    for order in (
        orders.Delete(place=place),
        orders.UseDatastore(directory=str(datastore), first=False),
    ):
        with pytest.raises(ApiError) as refused:
            await ask(agent, order)
        assert refused.value.error_type is ErrorType.RESOURCE_INACCESSIBLE
        assert DATASTORE_MARK in refused.value.messages[0].default_message
    datastore.rmdir()
    disk.rename(datastore)
    await ask(agent, orders.UseDatastore(directory=str(datastore), first=False))
    for _ in range(2):
        await ask(agent, orders.Delete(place=place))
    assert entries(datastore) == {DATASTORE_MARK}


@pytest.mark.parametrize("text", [b"", b"{}", b'{"type":"format-disk"}', b"\xff", b"[]"])
async def test_an_order_that_is_none_has_an_answer(agent: Agent, text: bytes) -> None:
    """A data node of another version learns why."""
    with pytest.raises(ApiError) as refused:
        orders.result_of(await agent.answer(text), None)
    assert refused.value.error_type is ErrorType.INVALID_ARGUMENT


async def test_space_is_measured_where_there_is_a_directory(agent: Agent, tmp_path: Path) -> None:
    """Another one is left out."""
    order = orders.MeasureSpace(directories=(str(tmp_path), str(tmp_path / "missing")))
    found = await ask(agent, order, dict[str, orders.Space])
    assert list(found) == [str(tmp_path)]
    assert found[str(tmp_path)].free == pytest.approx(
        os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize, rel=0.1
    )


def test_an_order_has_no_field_that_is_not_shown() -> None:
    """It is one line of JSON."""
    order = orders.PowerOn(place=Place(directory="/d", token="t", name="n"))
    shown = json.loads(orders.encode_order(order))
    assert shown == {"type": "power-on", "place": {"directory": "/d", "token": "t", "name": "n"}}


def test_whoever_refuses_a_connection_is_there() -> None:
    """Nothing of a node needs to run at an address that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert responds("127.0.0.1", [port])
    assert responds("127.0.0.1", [port])
