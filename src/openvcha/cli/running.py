"""Running a node until it is told to stop, without the command line.

`vcha node run` runs a complete node; `vcha node bootstrap` first makes its directory one.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import msgspec

from openvcha.node.engines import EngineMissing
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.identity import IDENTITY, Identity, absolute, load_identity
from openvcha.node.layout import BOOT, Layout
from openvcha.node.process.handover import require_node
from openvcha.node.process.inheritance import reset_inherited_state
from openvcha.node.process.lock import NodeRuns
from openvcha.node.process.process_tree import StillAlive
from openvcha.node.process.supervised_loop import run_forever
from openvcha.node.service_manager.notify import ServiceManager
from openvcha.node.supervisor.plan import PartPlan, all_parts, engine_parts
from openvcha.node.supervisor.supervisor import Supervisor
from openvcha.store.account import AccountSource
from openvcha.store.interface import StoreWithAccounts
from openvcha.system.accounts.privileges import CannotDropRoot, drop_root, own_command_line
from openvcha.system.files.new_files import until_exists
from openvcha.system.structlog_light import structlog

VOTES_SECONDS = 1.0


class NodeCannotRun(Exception):  # noqa: N818 - an expected condition, not a defect
    """The node cannot be run; the text says why."""


def run_node(directory: Path, *, service: bool = True) -> None:
    """Run a node, on a data node with or without its service. Raises NodeCannotRun."""
    try:
        (directory / IDENTITY).lstat()  # at once: to choose an account takes a second
        if os.geteuid() == 0:
            _start_helper(absolute(directory))
        drop_root(own_command_line(), directory, require_node)
        directory = absolute(directory)
        reset_inherited_state()
        plan = all_parts if service else engine_parts
        asyncio.run(_until_stopped(partial(_run, directory, plan)))
    except (CannotDropRoot, EngineMissing, NodeRuns, StillAlive) as error:
        raise NodeCannotRun(str(error)) from error
    except (OSError, msgspec.DecodeError) as error:
        raise NodeCannotRun(f"cannot run the node in {directory}: {error}") from error


def _start_helper(directory: Path) -> None:
    """Start what holds the public address on an interface: only root can."""
    # On demand: only few programs are root's.
    from openvcha.node.address.interface import starter  # noqa: PLC0415

    try:
        starter.start_helper(directory)
    except starter.HelperNotStartedError as error:
        raise NodeCannotRun(str(error)) from error


def bootstrap_node(directory: Path) -> None:
    """Make a directory with a boot file a node, unless it is one, and run it.

    Raises NodeCannotRun.
    """
    if os.path.lexists(directory / IDENTITY) and not os.path.lexists(directory / BOOT):
        run_node(directory)
        return
    # Imported for a new node only: it loads the contract.
    from openvcha.daemon.bootstrap import NotBootable, require_bootable  # noqa: PLC0415

    try:
        require_bootable(directory, changes_owner=False)  # at once, as above
        drop_root(own_command_line(), directory, require_bootable)
        directory = absolute(directory)
        reset_inherited_state()
        asyncio.run(_until_stopped(partial(_bootstrap, directory)))
    except (CannotDropRoot, EngineMissing, NodeRuns, NotBootable, StillAlive) as error:
        raise NodeCannotRun(str(error)) from error
    except (OSError, msgspec.DecodeError) as error:
        raise NodeCannotRun(f"cannot run the node in {directory}: {error}") from error


async def _until_stopped(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Do the work, which ends when its event is set: at SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await work(stop)


async def _bootstrap(directory: Path, stop: asyncio.Event) -> None:
    from openvcha.daemon.bootstrap import bootstrap  # noqa: PLC0415 - as above

    # A service manager must not take the wait for the cluster for a start that fails.
    async with ServiceManager().informed():
        joined = await bootstrap(directory, stop)
    if joined:
        await _run(directory, all_parts, stop)


async def _run(directory: Path, plan: PartPlan, stop: asyncio.Event) -> None:
    log = structlog.get_logger("peers")
    peers = asyncio.create_task(run_forever("peers", lambda: _peers(directory), log), name="peers")
    try:
        await Supervisor(
            directory, plan=plan, rewrite=partial(_stand_alone, NodeAccount(directory))
        ).run(stop)
    finally:
        peers.cancel()
        await asyncio.wait([peers])


async def _peers(directory: Path) -> None:
    """Keep the nodes that a task needs powered on; import the infrastructure only then."""
    layout, identity = Layout(directory), load_identity(directory)
    await until_exists(layout.required_votes, VOTES_SECONDS)
    from openvcha.daemon.infrastructure import node_infrastructure  # noqa: PLC0415
    from openvcha.daemon.peer_power import watch_peers  # noqa: PLC0415

    await watch_peers(layout, identity, node_infrastructure(identity, layout))


async def _stand_alone(own: AccountSource, store: StoreWithAccounts, identity: Identity) -> None:
    # Imported on demand, which is rare: it loads the tasks and the whole contract.
    from openvcha.daemon.recovery.standalone import stand_alone  # noqa: PLC0415

    await stand_alone(store, identity, own)
