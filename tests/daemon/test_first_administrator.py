"""The first Administrator, whom the first node's directory has until the store has one."""

from pathlib import Path

import msgspec
import pytest

from openvcha.api.secret import Secret
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.users import Users, new_user
from openvcha.daemon.first_administrator import add_first_administrator
from openvcha.node.layout import Layout
from openvcha.store.memory import MemoryStore

NAME = "administrator@vsphere.local"
PASSWORD = Secret("of-the-first-one")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


async def left(layout: Layout, password: Secret = PASSWORD) -> None:
    user = await new_user(NAME, password, UserRole.ADMINISTRATOR)
    layout.first_administrator.write_bytes(msgspec.json.encode(user))


async def test_the_store_gets_the_user_once(layout: Layout) -> None:
    """Then the file is gone: a user who is removed later stays removed."""
    store = MemoryStore()
    await left(layout)
    assert PASSWORD.reveal().encode() not in layout.first_administrator.read_bytes()
    await add_first_administrator(store, layout)
    users = Users(store)
    assert (await users.verify(NAME, PASSWORD)).role is UserRole.ADMINISTRATOR
    assert not layout.first_administrator.exists()
    await add_first_administrator(store, layout)
    assert len(await users.list()) == 1


async def test_an_existing_user_is_not_changed(layout: Layout) -> None:
    """As after a crash before the file was deleted, and a new password since."""
    store = MemoryStore()
    users = Users(store)
    changed = Secret("changed-since")
    await users.add(NAME, changed, UserRole.ADMINISTRATOR)
    await left(layout)
    await add_first_administrator(store, layout)
    await users.verify(NAME, changed)
    assert not layout.first_administrator.exists()


async def test_an_unreadable_file_prevents_nothing(layout: Layout) -> None:
    """The node serves all the same; `vcha user add --node` adds an Administrator."""
    layout.first_administrator.write_bytes(b"{}")
    await add_first_administrator(MemoryStore(), layout)
    assert layout.first_administrator.exists()
