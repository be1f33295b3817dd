"""Powers on the nodes that a running task needs the votes of, when the store has stopped.

The tasks themselves live in the store, and wait for it. So this looks only at the node's own disk,
at its own member of the store, and at the infrastructure.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import structlog

from openvcha.api.errors import ApiError
from openvcha.infrastructure.protocol import Infrastructure
from openvcha.node.account import NodeAccount
from openvcha.node.etcd import answers, client_url
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.relied import relied_on, rely_on_nobody
from openvcha.node.tls import NodeTls
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.etcd import Etcd

LOOK_SECONDS = 1.0
STOPPED_SECONDS = 5.0
"""Longer than an election in the store, shorter than a client waits."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Means:
    """What a node knows and can do without the store."""

    relied_on: Callable[[], Collection[str]]
    rely_on_nobody: Callable[[], None]
    store_serves: Callable[[], Awaitable[bool]]
    task_runs: Callable[[], Awaitable[bool]]
    """Asked while the store serves; what cannot be known is True."""
    power_on: Callable[[str], Awaitable[None]]


async def keep_peers_on(means: Means) -> None:
    """Look until canceled. What lasts is a store that does not serve for some looks in a row."""
    clock = asyncio.get_running_loop().time
    served = clock()
    while True:
        if not (vms := means.relied_on()) or await means.store_serves():
            served = clock()
            if vms and not await means.task_runs():
                means.rely_on_nobody()
        elif clock() - served >= STOPPED_SECONDS:
            await asyncio.gather(*(_power_on(means, vm) for vm in vms))
            served = clock()
        await asyncio.sleep(LOOK_SECONDS)


async def _power_on(means: Means, vm: str) -> None:
    try:
        await means.power_on(vm)
    except ApiError as error:
        _log.warning("a node that the store needs cannot be powered on", vm=vm, reason=str(error))


def means_of(identity: Identity, layout: Layout, infrastructure: Infrastructure) -> Means:
    """Return the means of a node with this directory."""
    tls, own = NodeTls(layout), client_url(identity)

    async def task_runs() -> bool:
        try:
            async with Etcd([own], tls, account=NodeAccount(layout.root)) as store:
                return await store.get(keys.OPERATION) is not None
        except StoreError:
            return True

    return Means(
        relied_on=lambda: relied_on(layout),
        rely_on_nobody=lambda: rely_on_nobody(layout),
        store_serves=lambda: answers(own, tls()),
        task_runs=task_runs,
        power_on=infrastructure.power_on,
    )


async def watch_peers(layout: Layout, identity: Identity, infrastructure: Infrastructure) -> None:
    """Keep the peers of a data node on while a task needs them, until canceled."""
    await keep_peers_on(means_of(identity, layout, infrastructure))
