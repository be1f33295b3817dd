"""The initial users of a lab."""

import asyncio
from pathlib import Path

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.users import Users
from openvcha.lab.access import ROLES
from openvcha.lab.state import ADMINISTRATOR, READER, Lab
from openvcha.node.store_access import open_store
from openvcha.store.errors import StoreUnavailable

POLL_SECONDS = 0.05


async def make_users(lab: Lab, node: Path) -> None:
    """Add the lab's users once the store responds, unless that has been done.

    The administrator is added last and marks completion: users that were removed stay removed.
    """
    async with open_store(node) as store:
        users = Users(store)
        if await _waited(users):
            return
        for name in (READER, ADMINISTRATOR):
            await _add(users, lab, name, ROLES[name])


async def _waited(users: Users) -> bool:
    while True:
        try:
            return await users.find(ADMINISTRATOR) is not None
        except StoreUnavailable:
            await asyncio.sleep(POLL_SECONDS)


async def _add(users: Users, lab: Lab, name: str, role: UserRole) -> None:
    try:
        await users.add(name, lab.password(name), role)
    except ApiError as error:
        if error.error_type is not ErrorType.ALREADY_EXISTS:
            raise
