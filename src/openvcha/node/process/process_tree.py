"""Finding and killing the processes of a node, from outside.

A node may run in another user namespace, where /proc shows only `stat`, `cmdline` and the owner. So
a process belongs to a node if its command line, or that of an ancestor, names the node.
PostgreSQL's backends do not name it; if their postmaster is dead, they are recognized by their
working directory, if /proc shows it.

Any account can start a program with any command line. So only processes of the node's own account
count (`node_uid`).
"""

import asyncio
import contextlib
import dataclasses
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from openvcha.node.layout import Layout
from openvcha.node.process.lock import foreign_holder
from openvcha.node.process.status import load_status
from openvcha.system.accounts.terminal import WAITS
from openvcha.system.proc import PROC, read_stat, read_uid

PATRONI = "openvcha.node.patroni.launcher"
REAPER = "openvcha.node.process.reaper"
OWN_PROGRAMS = frozenset({"run", "bootstrap", "service", "api"})
PAUSE_SECONDS = 0.01
DEADLINE_SECONDS = 15.0


class StillAlive(Exception):  # noqa: N818 - named after the outcome
    """Processes survived SIGKILL until the deadline."""


@dataclasses.dataclass(frozen=True)
class Process:
    """One process; `started`, in clock ticks since boot, distinguishes reused pids.

    `uid` is that of its account; None if unknown.
    """

    pid: int
    parent: int
    started: int
    argv: tuple[str, ...]
    uid: int | None = None


class NodeProcesses:
    """The processes of nodes, from /proc."""

    def find(self, directory: Path) -> list[int]:
        """Return the pids of all processes of the node, except the caller's own."""
        return self.find_each([directory])[0]

    def find_each(self, directories: Sequence[Path]) -> list[list[int]]:
        """Return the pids for several nodes, in their order, with one walk through /proc."""
        table = read_table()
        return [
            sorted(process.pid for process in find_tree(directory, table))
            for directory in directories
        ]

    async def kill(self, directory: Path) -> None:
        """Kill all processes of the node at once, like a power loss.

        Raises StillAlive, also if a supervisor of another account still runs the node.
        """
        await asyncio.to_thread(kill_tree, directory)
        if holder := foreign_holder(Layout(directory).lock, node_uid(directory)):
            raise StillAlive(f"the node in {directory} is still run by {holder}")


def find_tree(directory: Path, table: Mapping[int, Process] | None = None) -> list[Process]:
    """Return all processes of the node, except the caller and its ancestors.

    ``table`` contains all processes, if the caller has just read them.
    """
    table = read_table() if table is None else table
    uid = node_uid(directory)
    own = {pid: process for pid, process in table.items() if process.uid == uid}
    return members(
        own,
        directory,
        spared=ancestors(table, os.getpid()),
        also=_recorded(directory),
        orphans=orphaned(own, working_in(Layout(directory).pgdata)),
    )


def node_uid(directory: Path) -> int:
    """Return the uid of the account whose processes may belong to the node.

    It is our own, unless we are root: then it is the owner of the directory, or of its nearest
    parent that exists.
    """
    own = os.geteuid()
    for path in (directory, *directory.parents) if own == 0 else ():
        with contextlib.suppress(OSError):
            return path.stat().st_uid
    return own


def kill_tree(
    directory: Path,
    *,
    deadline: float = DEADLINE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    which: Callable[[Process], bool] = lambda _: True,
) -> None:
    """Freeze the whole tree, then kill it, so that no part of it sees another part exit.

    ``which`` filters the tree. Raises StillAlive if a process is left at the deadline (seconds).
    """
    end = clock() + deadline
    while tree := _freeze(directory, which):
        for process in tree:
            send(process, signal.SIGKILL)
        while any(is_alive(process) for process in tree):
            if clock() > end:
                left = [process.pid for process in tree if is_alive(process)]
                raise StillAlive(f"processes {left} of {directory} survived SIGKILL")
            sleep(PAUSE_SECONDS)


def members(
    table: Mapping[int, Process],
    directory: Path,
    *,
    spared: frozenset[int] = frozenset(),
    also: Process | None = None,
    orphans: Iterable[Process] = (),
) -> list[Process]:
    """Return a node's processes: those that name it, their descendants, and `orphans`.

    A node that was started from this one is its own tree, even if its parent is in this one.
    `also` is a recorded process; it counts only if its start time matches.
    """
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    waiting = [process for process in table.values() if names_node(process.argv, directory)]
    if also and (known := table.get(also.pid)) and known.started == also.started:
        waiting.append(known)
    waiting += orphans
    found: dict[int, Process] = {}
    while waiting:
        process = waiting.pop()
        if process.pid in found or process.pid in spared:
            continue
        found[process.pid] = process
        waiting += [
            child
            for child in children.get(process.pid, [])
            if node_run(child.argv) in (None, directory)
        ]
    return list(found.values())


def names_node(argv: tuple[str, ...], directory: Path) -> bool:
    """Return whether a command line is one of the node's own programs."""
    if not argv:
        return False
    layout = Layout(directory)
    name = program(argv)
    if node_run(argv) == directory:
        return True
    if name == "etcd":
        return _names(argv, layout.etcd_data)
    if is_postgres(argv):
        return _names(argv, layout.pgdata) or _names(argv, layout.incomplete_base_backup)
    if not name.startswith("python"):
        return False
    is_patroni = PATRONI in argv and _names(argv, layout.patroni_config)
    return is_patroni or (REAPER in argv and _names(argv, directory))


def orphaned(table: Mapping[int, Process], works_here: Callable[[int], bool]) -> list[Process]:
    """Return the processes of a PostgreSQL whose postmaster is dead.

    `works_here` returns whether a process (pid) works in the data directory, as the postmaster and
    all its children do. A child's parent changes only when the parent dies, so a child whose
    parent works elsewhere has lost its postmaster, whatever has been started since.
    """
    return [
        process
        for process in table.values()
        if _holds_memory(process.argv)
        and works_here(process.pid)
        and not works_here(process.parent)
    ]


def working_in(directory: Path, proc: Path = PROC) -> Callable[[int], bool]:
    """Return a predicate for pids that work in a directory; False if /proc hides that."""

    def works(pid: int) -> bool:
        try:
            return (proc / str(pid) / "cwd").samefile(directory)
        except OSError:
            return False

    return works


def _holds_memory(argv: tuple[str, ...]) -> bool:
    # The logger holds no shared memory; it exits by itself after the last process that logs.
    title = argv[0].rstrip() if argv else ""
    return title.startswith("postgres: ") and not title.endswith(": logger")


def is_postgres(argv: tuple[str, ...]) -> bool:
    """Return whether a command line or title belongs to PostgreSQL or one of its tools."""
    name = program(argv)
    return name in {"postgres", "initdb"} or name.startswith("pg_")


def program(argv: tuple[str, ...]) -> str:
    """Return the program of a command line, or of a server process's title."""
    # PostgreSQL's processes set the title "postgres: CLUSTER: activity".
    return Path(argv[0].partition(": ")[0]).name if argv else ""


def node_run(argv: tuple[str, ...]) -> Path | None:
    """Return the directory of a `vcha node run|bootstrap|service|api DIR`; None for others."""
    if not argv or not re.match(r"python|vcha", Path(argv[0]).name):
        return None
    for at, word in enumerate(argv[:-3]):
        is_ours = word == "openvcha" or Path(word).name == "vcha"
        if is_ours and argv[at + 1] == "node" and argv[at + 2] in OWN_PROGRAMS:
            named = [value for value in argv[at + 3 :] if not value.startswith("-")]
            return Path(os.path.realpath(named[0])) if named else None
    return None


def ancestors(table: Mapping[int, Process], pid: int) -> frozenset[int]:
    """Return the pids of a process and all its ancestors."""
    found: set[int] = set()
    while pid in table and pid not in found:
        found.add(pid)
        pid = table[pid].parent
    return frozenset(found)


def read_table(proc: Path = PROC) -> dict[int, Process]:
    """Return all live processes by pid; skip those that exit meanwhile."""
    read = (read_process(int(entry.name), proc) for entry in proc.iterdir() if entry.name.isdigit())
    return {process.pid: process for process in read if process}


def read_process(pid: int, proc: Path = PROC) -> Process | None:
    """Return one process; None if it has exited (or is a zombie), or is hidden from us."""
    try:
        stat = read_stat(pid, proc)
        if stat is None or stat.ended:
            return None
        command = (proc / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if stat.name == WAITS:
        command = b""  # it has a node's command line, but is not one
    argv = (
        tuple(os.fsdecode(word) for word in command.rstrip(b"\0").split(b"\0")) if command else ()
    )
    return Process(pid, stat.parent, stat.started, argv, read_uid(pid, proc))


def is_alive(process: Process) -> bool:
    """Return whether this very process is still running."""
    now = read_stat(process.pid)
    return now is not None and not now.ended and now.started == process.started


def send(process: Process, number: signal.Signals) -> bool:
    """Signal this process, never another one with its pid; return whether it got the signal.

    It does not if it has exited, or the kernel denies it: it is another account's.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True


def _freeze(directory: Path, which: Callable[[Process], bool]) -> list[Process]:
    # Frozen processes do not fork, so in the end the list is complete.
    frozen: dict[int, Process] = {}
    try:
        while fresh := [p for p in find_tree(directory) if p.pid not in frozen and which(p)]:
            for process in fresh:
                frozen[process.pid] = process
                send(process, signal.SIGSTOP)
    except BaseException:
        # An incomplete list is no reason to leave the processes in it frozen.
        for process in frozen.values():
            with contextlib.suppress(OSError):
                send(process, signal.SIGKILL)
        raise
    return list(frozen.values())


def is_running(directory: Path) -> bool:
    """Return whether the supervisor that wrote the node's status runs."""
    status = load_status(directory)
    return status is not None and status.pid in NodeProcesses().find(directory)


def _names(argv: Iterable[str], path: Path) -> bool:
    wanted = str(path)
    return any(word == wanted or word.endswith(f"={wanted}") for word in argv)


def _recorded(directory: Path) -> Process | None:
    status = load_status(directory)
    return Process(status.pid, 0, status.started, ()) if status else None
