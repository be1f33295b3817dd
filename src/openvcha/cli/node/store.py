"""`vcha node store`: what cannot be read in the cluster's store, and how it gets out of the way."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api_server.auditing import local_entry
from openvcha.cli.accounts import node_directory
from openvcha.cli.output.errors import fail, reporting_errors
from openvcha.cli.output.plain import confirm, say
from openvcha.daemon import unreadable_records
from openvcha.daemon.unreadable_records import SetAsideRefused, Unreadable
from openvcha.events.audit import AuditLog
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import known_endpoints
from openvcha.node.etcd.sealed_store import sealed_store
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout
from openvcha.node.security.tls import NodeTls
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import Store
from openvcha.store.sealing.cluster_store import SealedEtcd
from openvcha.store.space import Room, make_room, percent

app = typer.Typer(help="The cluster's store, reached through a node.", no_args_is_help=True)

Directory = Annotated[
    Path, typer.Argument(help="The directory of a data node.", exists=True, file_okay=False)
]
Key = Annotated[str, typer.Argument(help="The key, as a warning or `list` shows it.")]
Force = Annotated[bool, typer.Option("--force", help="Set it aside even if its value can be read.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
T = TypeVar("T")
EVERYTHING = (keys.ROOT,)
"""Includes the sessions, the events and the audit."""


@app.command("list")
def list_(directory: Directory) -> None:
    """List the records that cannot be read, with the reasons."""
    with reporting_errors():
        found = asyncio.run(_with_store(directory, _all))
        for one in found:
            say(f"{one.key}: {one.reason}")
        if not found:
            say("all records can be read")


@app.command("set-aside")
def set_aside(directory: Directory, key: Key, force: Force = False) -> None:
    """Move a record that cannot be read out of the way, to /openvcha/aside/.

    A task that is set aside no longer holds the cluster's operation. The audit records who did it.
    """
    with reporting_errors():
        place = asyncio.run(_with_store(directory, lambda store: _audited(store, key, force)))
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
        asyncio.run(_with_store(directory, _accepted))
        say("the store is accepted as it is; all sessions have ended")


@app.command()
def defragment(directory: Directory) -> None:
    """Free space in the store: compact it, defragment its members, clear the alarm of a full one.

    Members are defragmented one at a time, the leader last. This works on a full store, and needs a
    quorum.
    """
    with reporting_errors():
        quota = load_identity(node_directory(directory)).store.quota_bytes
        after = asyncio.run(_with_store(directory, lambda store: _given_room(store, quota)))
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


async def _given_room(store: SealedEtcd, quota: int) -> Room:
    after = await make_room(store, quota, say, every=True)
    entry = local_entry(
        operation="store.defragment", user=getpass.getuser(), arguments={}, error=None
    )
    await AuditLog(store).record(entry, access=False)
    return after


async def _accepted(store: SealedEtcd) -> None:
    error = None
    try:
        if not await store.accept():
            said = "users have just been changed; check them and try again"
            error = ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("store.refused", said))
            raise fail(said)
    finally:
        entry = local_entry(
            operation="store.accept", user=getpass.getuser(), arguments={}, error=error
        )
        await AuditLog(store).record(entry, access=False)


async def _audited(store: Store, key: str, force: bool) -> str:
    user, error = getpass.getuser(), None
    try:
        return await unreadable_records.set_aside(
            store, key, by=user, now=datetime.now(UTC), force=force
        )
    except SetAsideRefused as refused:
        error = ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, message("store.refused", refused))
        raise fail(str(refused)) from refused
    finally:
        arguments = {"key": key, "force": force}
        entry = local_entry(
            operation="store.set-aside", user=user, arguments=arguments, error=error
        )
        await AuditLog(store).record(entry, access=False)


async def _all(store: Store) -> list[Unreadable]:
    return [
        *await unreadable_records.find_unreadable(store, EVERYTHING),
        *await unreadable_records.find_forged(store),
    ]


async def _with_store(directory: Path, work: Callable[[SealedEtcd], Awaitable[T]]) -> T:
    layout = Layout(node_directory(directory))
    identity = load_identity(layout.root)
    if not identity.holds_data:
        raise fail(f"{identity.name} is a witness: use the directory of a data node")
    own, *others = known_endpoints(identity, layout)
    try:
        account = NodeAccount(layout.root)
        etcd = Etcd([own, *others], NodeTls(layout), account=account)
        async with sealed_store(layout, etcd) as store:
            return await work(store)
    except StoreError as error:
        raise fail(f"the store cannot be reached: {error}") from error
