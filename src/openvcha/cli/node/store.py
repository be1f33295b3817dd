"""`vcha node store`: repairing records in the cluster's store, and its space."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from openvcha.cli.accounts import node_directory
from openvcha.cli.exit_codes import EPILOG
from openvcha.cli.output.errors import fail, reporting_errors
from openvcha.cli.output.plain import confirm, say
from openvcha.daemon import store_maintenance as maintenance
from openvcha.daemon.store_maintenance import AcceptRefused, DefragmentRefused
from openvcha.daemon.unreadable_records import SetAsideRefused
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout
from openvcha.node.store_access import open_store
from openvcha.store.errors import StoreError
from openvcha.store.interface import Store
from openvcha.store.sealing.cluster_store import SealedEtcd
from openvcha.store.space import SpaceReport, percent
from openvcha.system.accounts.local_user import local_user

app = typer.Typer(
    help="The cluster's store, reached through a node.", epilog=EPILOG, no_args_is_help=True
)

Directory = Annotated[
    Path, typer.Argument(help="The directory of a data node.", exists=True, file_okay=False)
]
Key = Annotated[str, typer.Argument(help="The key, as a warning or `list` shows it.")]
Force = Annotated[bool, typer.Option("--force", help="Set it aside even if its value can be read.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
T = TypeVar("T")


@app.command("list")
def list_(directory: Directory) -> None:
    """List the records that cannot be read, with the reasons."""
    with reporting_errors():
        found = asyncio.run(_with_store(directory, maintenance.find_unreadable))
        for one in found:
            say(f"{one.key}: {one.reason}")
        if not found:
            say("all records can be read")


@app.command("set-aside")
def set_aside(directory: Directory, key: Key, force: Force = False, yes: Yes = False) -> None:
    """Move a record that cannot be read out of the way, to /openvcha/aside/.

    A task that is set aside no longer holds the cluster's operation. The audit records who did it.
    With --force it asks first; a task that can be read and has not ended is refused: cancel it.
    """
    with reporting_errors():
        if force and not yes and not confirm(f"Set {key} aside even if its value can be read?"):
            raise fail("nothing was changed")

        def work(store: Store) -> Awaitable[str]:
            now = datetime.now(UTC)
            return maintenance.set_aside(store, key, by=local_user(), now=now, force=force)

        place = asyncio.run(_with_store(directory, work))
        say(f"{key} was set aside to {place}")


@app.command()
def accept(directory: Directory, yes: Yes = False) -> None:
    """Accept the store's users and join tokens as they are, after you restored the store.

    Until then, users and tokens that differ from what the data nodes last saw are ignored. All
    sessions end. The audit records who did it.
    """
    with reporting_errors():
        differing = asyncio.run(_with_store(directory, lambda store: store.differing()))
        for key in differing:
            say(f"{key}: differs from what this node last saw")
        if not differing:
            say("no user or join token differs from what this node last saw")
        if not yes and not confirm("Accept them as they are in the store, and end all sessions?"):
            raise fail("nothing was changed")
        by = local_user()
        asyncio.run(_with_store(directory, lambda store: maintenance.accept(store, by=by)))
        say("the store is accepted as it is; all sessions have ended")


@app.command()
def defragment(directory: Directory) -> None:
    """Free space in the store: compact it, defragment its members, clear the alarm of a full one.

    Members are defragmented one at a time, the leader last. This works on a full store, and needs a
    quorum, and no other node may be doing it. Unless the store is full, all members must respond.
    On a full store, it runs on the active, or without one on the first data node by name.
    """
    with reporting_errors():
        layout = Layout(node_directory(directory))
        identity = load_identity(layout.root)
        quota = identity.store.quota_bytes
        node = maintenance.Node(identity.member, layout.space_lock, quota)
        by = local_user()

        def work(store: SealedEtcd) -> Awaitable[SpaceReport]:
            return maintenance.free_space(store, node, say, by=by)

        after = asyncio.run(_with_store(directory, work))
        for one in after.in_order:
            limit = one.limit(quota)
            share = percent(one.size, limit)
            say(f"{one.name}: {one.size} of {limit} bytes ({share} %), {one.in_use} in use")
        for name in after.silent:
            say(f"{name}: does not respond; it was not defragmented")
        if after.full:
            raise fail(
                'the store is still full after compaction: raise its quota ("store":'
                ' {"quota_bytes": …} in node.json of each node, then restart the nodes)'
            )
        say("the store accepts writes")


async def _with_store(directory: Path, work: Callable[[SealedEtcd], Awaitable[T]]) -> T:
    layout = Layout(node_directory(directory))
    identity = load_identity(layout.root)
    if not identity.holds_data:
        raise fail(f"{identity.name} is a witness: use the directory of a data node")
    try:
        async with open_store(layout.root) as store:
            return await work(store)
    except (SetAsideRefused, AcceptRefused, DefragmentRefused) as refused:
        raise fail(str(refused)) from refused
    except StoreError as error:
        raise fail(f"the store cannot be reached: {error}") from error
