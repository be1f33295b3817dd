"""The helper that holds a node's public address: the only program of ours with NET_ADMIN, NET_RAW.

Root starts it with the path of its configuration (`helper_config.py`). It lets PostgreSQL listen at
the address in advance, makes its socket, and drops all other privileges before it serves.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from openvcha.node.address.interface.helper_config import (
    WITH_PARENT,
    HelperConfig,
    UnusableConfigError,
    helper_account,
    read_config,
)
from openvcha.node.address.interface.holder import Holder
from openvcha.node.address.interface.kernel import Netlink, allow_binding
from openvcha.node.address.interface.lifetime import boot_time
from openvcha.node.address.interface.packets import PacketSocket
from openvcha.node.address.interface.server import HelperServer
from openvcha.node.service_manager import notify
from openvcha.system.accounts.capabilities import Capability, become
from openvcha.system.accounts.terminal import write_error
from openvcha.system.files.path_owners import CannotDropRoot, make_directories, opened
from openvcha.system.structlog_light import structlog

PRIVILEGES: Final = (Capability.NET_ADMIN, Capability.NET_RAW)
BACKLOG: Final = 8

_log = structlog.get_logger(__name__)


ERRORS: Final = (CannotDropRoot, OSError, UnusableConfigError)


def main(arguments: Sequence[str]) -> int:
    """Run the helper until SIGTERM; return its exit code."""
    *options, path = arguments or ("",)
    try:
        run(Path(path), with_parent=WITH_PARENT in options)
    except ERRORS as error:
        _log.error("cannot hold the public address", reason=str(error))
        return 1
    return 0


def run(path: Path, *, with_parent: bool = False) -> None:
    """Run the helper until SIGTERM, or until the process that started it ends. Raises ERRORS."""
    _log_as_json()
    config = read_config(path)
    allow_binding(config.held_address().address)
    with _listening(config) as listener:
        parent = os.pidfd_open(os.getppid()) if with_parent else None
        become(*helper_account(), PRIVILEGES)
        asyncio.run(_serve(config, listener, parent))


def _listening(config: HelperConfig) -> socket.socket:
    """Return a listening socket that only root and the node's account can connect to.

    Raises CannotDropRoot, OSError, UnusableConfigError.
    """
    path, uid = Path(config.socket), config.uid()
    make_directories(path.parent)
    with opened(path.parent) as directory:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=directory)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listener.fileno(), 0o600)  # the file gets it, and is never open to others
            listener.bind(f"/proc/self/fd/{directory}/{path.name}")
            os.chown(path.name, uid, -1, dir_fd=directory, follow_symlinks=False)
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
    return listener


async def _serve(config: HelperConfig, listener: socket.socket, parent: int | None) -> None:
    """Serve until SIGTERM, or until the process of this descriptor has ended."""
    spec = config.held_address()
    kernel = Netlink()
    holder = Holder(spec, kernel, PacketSocket, now=boot_time)
    server = HelperServer(spec, holder, config.uid())
    serving = asyncio.create_task(server.serve(listener), name="helper")
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent is not None:
        loop.add_reader(parent, stop.set)
    _log.info("ready", interface=spec.interface, address=str(spec.address))
    if manager := os.environ.get("NOTIFY_SOCKET"):
        notify.send(manager, notify.READY)
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        if parent is not None:
            loop.remove_reader(parent)
        serving.cancel()  # once: what follows must not be interrupted
        await asyncio.wait([serving])
        stopping.cancel()
        kernel.close()
    if not serving.cancelled():
        serving.result()


def _log_as_json() -> None:
    """Log one JSON object per line to standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_Errors,
    )


class _Errors:
    """A sink for structlog: standard error, which may be a terminal of root's."""

    def __init__(self, *_: object) -> None:
        """Take what structlog passes to each logger."""

    def msg(self, line: str) -> None:
        """Write a line; ignore errors: logging must not stop the work."""
        with contextlib.suppress(OSError):
            write_error(line)

    debug = info = warning = error = critical = exception = msg


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
