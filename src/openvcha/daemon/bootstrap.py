"""How a directory with a boot file becomes a node: it joins its cluster, once.

Each part may be repeated after a crash: the node's key stays the same, so the cluster gives the
same answer; the files are written again; the identity comes last. Then the boot file is deleted.
"""

import asyncio
import contextlib
import errno
import os
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from openvcha.api.foreign_text import truncate
from openvcha.api.structures import IpSpec
from openvcha.client.errors import RequestRefused, ServerUnreachable
from openvcha.client.trust import tls_by_authority_thumbprint
from openvcha.infrastructure.boot import BOOT_FILE, Boot, decode_boot
from openvcha.node.identity import IDENTITY
from openvcha.node.join_client import JoinCall, TlsFor, is_refusal, receive_files
from openvcha.node.joining import (
    JoinRefused,
    JoinRequest,
    abandon,
    complete,
    forget_join,
    request_certificate,
)
from openvcha.node.layout import Layout
from openvcha.node.process.lock import lock_node
from openvcha.node.process.logs import Logger, RotatingLog, log_path, logger
from openvcha.node.process.process_tree import read_process
from openvcha.node.process.status import BOOTSTRAP, NodeStatus, load_status, save_status
from openvcha.store.http.client import split
from openvcha.system.files.durable import write_private

KINDS: Final = {"passive": "data", "witness": "witness"}
MAX_BOOT_BYTES: Final = 1 << 16
MAX_NOTE: Final = 1000


class NotBootable(Exception):  # noqa: N818 - named after the condition
    """The directory cannot become a node; the text says why."""


async def bootstrap(directory: Path, stop: asyncio.Event) -> bool:
    """Make the directory a node, unless it is one; return False if ``stop`` came first.

    It tries again for as long as no server answers, or says that it is busy.
    Raises NotBootable, also when the cluster has refused the node; NodeRuns, OSError.
    """
    layout = Layout(directory)
    if (directory / IDENTITY).exists():
        forget_join(directory, drop=(BOOT_FILE,))
        return True
    boot = load_boot(directory)
    if boot is None:
        raise NotBootable(_why_not_bootable(directory))
    layout.make_directories()
    with lock_node(layout.lock), _telling(layout, boot) as progress:
        write_private(layout.supervisor_pid, str(os.getpid()).encode())
        try:
            joined = await _join(directory, boot, progress, stop)
        except BaseException:
            layout.supervisor_pid.unlink(missing_ok=True)
            raise
    if not joined:
        layout.supervisor_pid.unlink(missing_ok=True)
    return joined


def require_bootable(directory: Path, *, changes_owner: bool) -> None:
    """Raise NotBootable unless the directory has a boot file or an identity. Raises OSError.

    For ``drop_root``: with a boot file, no program runs there that another owner would disturb.
    """
    from openvcha.node.process.handover import require_node  # noqa: PLC0415 - for root only

    if os.path.lexists(directory / IDENTITY):
        require_node(directory, changes_owner=changes_owner)
    elif not os.path.lexists(directory / BOOT_FILE):
        raise NotBootable(_why_not_bootable(directory))


def load_boot(directory: Path) -> Boot | None:
    """Return what the boot file says; None if there is none.

    Raises NotBootable for a file that anyone but its owner could have read, written or placed.
    """
    path = directory / BOOT_FILE
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotBootable(f"{path} is a symbolic link") from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        _require_private(path, os.fstat(file.fileno()))
        content = file.read(MAX_BOOT_BYTES + 1)
    return _decoded(path, content)


def _require_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotBootable(f"{path} is not a regular file")
    if found.st_uid != os.geteuid():
        raise NotBootable(f"{path} belongs to another account")
    if (mode := stat.S_IMODE(found.st_mode)) != 0o600:
        raise NotBootable(f"{path} has mode {mode:o}: its owner alone may use it (`chmod 600`)")
    if found.st_nlink != 1:
        raise NotBootable(f"{path} has another hard link")


def _decoded(path: Path, content: bytes) -> Boot:
    try:
        boot = decode_boot(content) if len(content) <= MAX_BOOT_BYTES else None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotBootable(f"{path} cannot be read: {error}") from error
    if boot is None or boot.role not in KINDS or not boot.join or not _address(boot.ha_ip):
        raise NotBootable(f"{path} does not describe a node")
    return boot


def _why_not_bootable(directory: Path) -> str:
    status = load_status(directory)
    if status is not None and (refused := status.notes.get(BOOTSTRAP)):
        return f"{directory} did not become a node: {refused}"
    return f"{directory} is not a node's directory: it has no {BOOT_FILE} and no {IDENTITY}"


async def _join(
    directory: Path, boot: Boot, progress: "_BootProgress", stop: asyncio.Event
) -> bool:
    wanted = JoinRequest(server="", role=boot.role, name=boot.name, ha_address=_address(boot.ha_ip))
    try:
        request = await asyncio.to_thread(request_certificate, directory, wanted)
        call = JoinCall(boot.join, _tls(boot.authority_sha256), wanted, boot.token, request)
        files = await _unless_stopped(call, progress, stop)
        if files is None:
            return False
        await asyncio.to_thread(complete, directory, files, drop=(BOOT_FILE,))
    except (JoinRefused, RequestRefused, ServerUnreachable) as error:
        refused = str(error)
        progress.tell(f"refused: {refused}")
        if is_refusal(error):
            abandon(directory, drop=(BOOT_FILE,))
        raise NotBootable(f"{directory} did not become a node: {refused}") from error
    progress.joined()
    return True


async def _unless_stopped(
    call: JoinCall, progress: "_BootProgress", stop: asyncio.Event
) -> dict[str, bytes] | None:
    """Return the node's files; None if ``stop`` came first."""
    joining = asyncio.create_task(
        receive_files(call, retry=_try_again, tell=progress.tell), name="join"
    )
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait([joining, stopping], return_when=asyncio.FIRST_COMPLETED)
        return await joining if joining.done() else None
    finally:
        for task in (joining, stopping):
            task.cancel()
        await asyncio.wait([joining, stopping])


def _try_again(error: Exception) -> bool:
    """Return whether to call again: always, until the cluster has refused the node.

    An impostor's answer decides nothing, nor does an error of the server.
    """
    return not is_refusal(error)


def _tls(authority: str) -> TlsFor:
    async def context(server: str) -> ssl.SSLContext:
        place, _ = split(server)
        return await tls_by_authority_thumbprint(place.host, place.port, authority)

    return context


def _address(ip: IpSpec) -> str:
    found = ip.ipv4 or ip.ipv6
    return found.address if found else ""


@contextmanager
def _telling(layout: Layout, boot: Boot) -> Iterator["_BootProgress"]:
    log = RotatingLog(log_path(layout.logs, "supervisor"))
    try:
        yield _BootProgress(layout, boot, logger(log, BOOTSTRAP))
    finally:
        log.close()


class _BootProgress:
    """What the bootstrap waits for, in the node's status and log: its creator shows it."""

    def __init__(self, layout: Layout, boot: Boot, events: Logger) -> None:
        own = read_process(os.getpid())
        self._layout = layout
        self._events = events
        self._status = NodeStatus(
            member=boot.name,
            kind=KINDS[boot.role],
            pid=os.getpid(),
            started=own.started if own else 0,
        )
        self._save({})
        self._events.info("joining the cluster", servers=boot.join)

    def tell(self, text: str) -> None:
        """Write to the status what the bootstrap waits for, or why it ended."""
        note = truncate(text, MAX_NOTE)
        self._events.warning("cannot join the cluster yet", reason=note)
        self._save({BOOTSTRAP: note})

    def joined(self) -> None:
        """Clear the status: the node has joined."""
        self._events.info("joined the cluster")
        self._save({})

    def _save(self, notes: dict[str, str]) -> None:
        with contextlib.suppress(OSError):  # the log may have said it
            save_status(self._layout.root, msgspec.structs.replace(self._status, notes=notes))
