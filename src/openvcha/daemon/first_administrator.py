"""The first user of a new cluster, whom `vcha init` has left in the node's directory."""

import asyncio

import msgspec

from openvcha.node.layout import Layout
from openvcha.store.interface import Store
from openvcha.system.files.regular_files import read_regular
from openvcha.system.structlog_light import structlog

_log = structlog.get_logger(__name__)


async def add_first_administrator(store: Store, layout: Layout) -> None:
    """Add the user to the store, then delete the file; do nothing without one.

    A user of this name that exists stays as it is. Raises StoreError, OSError.
    """
    path = layout.first_administrator
    if not path.exists():
        return
    # Imported here: it loads argon2, and this happens once in a cluster's life.
    from openvcha.api_server.auth.users import Users, decode_user  # noqa: PLC0415

    try:
        user = decode_user(await asyncio.to_thread(read_regular, path))
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("the first administrator cannot be read", path=str(path), reason=str(error))
        return
    added = await Users(store).add_prepared(user)
    await asyncio.to_thread(path.unlink)
    _log.info("first administrator", name=user.name, added=added)
