"""Programs: starting one, reading its output and waiting for its exit."""

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from openvcha.node.process.inheritance import PRIVATE_UMASK

MAX_LINE_BYTES = 64 << 10
DRAIN_SECONDS = 0.2
PIPE_BYTES = 1 << 20
"""What a program can log before the reaper detects that its output is not read."""
# Only arguments and files configure a node's programs.
FOREIGN_SETTINGS = ("PG", "ETCD_", "PATRONI_")
LOCALE = {"LC_ALL": "C.UTF-8"}

OnLine = Callable[[bytes], None]


class Running(Protocol):
    """A started program."""

    @property
    def pid(self) -> int:
        """Return the process id."""

    async def wait(self) -> int:
        """Wait until it exits, and return the exit code, negative for a signal."""

    def send(self, number: signal.Signals) -> None:
        """Signal it; do nothing if it has exited."""


class Launch(Protocol):
    """A function that starts programs; tests replace it."""

    async def __call__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        on_line: OnLine,
        stdin: int = asyncio.subprocess.DEVNULL,
    ) -> Running:
        """Start a program. Raises OSError."""


class Child:
    """A child process. Its output may stay open after its exit: PostgreSQL inherits Patroni's."""

    def __init__(self, process: asyncio.subprocess.Process, pump: asyncio.Task[None]) -> None:
        self._process = process
        self._pump = pump

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait until it exits, and return the exit code, negative for a signal."""
        code = await self._process.wait()
        await asyncio.wait([self._pump], timeout=DRAIN_SECONDS)
        self._pump.cancel()
        return code

    def send(self, number: signal.Signals) -> None:
        """Signal it; do nothing if it has exited."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


async def launch(
    argv: Sequence[str],
    environment: Mapping[str, str],
    on_line: OnLine,
    stdin: int = asyncio.subprocess.DEVNULL,
) -> Running:
    """Start a program in its own session; each line of its output goes to `on_line`."""
    read_end, write_end = os.pipe()
    with contextlib.suppress(OSError):  # each account has a quota of pipe memory
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    try:
        # With asyncio's own pipes, wait() would last until every holder of the output closes it.
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=environment,
            stdin=stdin,
            stdout=write_end,
            stderr=write_end,
            start_new_session=True,
            # Its files are private, and it does not keep a file system busy.
            umask=PRIVATE_UMASK,
            cwd="/",
        )
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    pump = asyncio.create_task(_pump(read_end, on_line), name=f"output of {argv[0]}")
    return Child(process, pump)


def program_environment(
    environment: Mapping[str, str], extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of one of our programs, without settings that override its files."""
    kept = {
        name: value for name, value in environment.items() if not name.startswith(FOREIGN_SETTINGS)
    }
    return {**kept, **LOCALE, "PYTHONUNBUFFERED": "1", **(extra or {})}


def engine_environment(
    environment: Mapping[str, str], home: Path, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of an engine, with only the search path of the caller's.

    Other variables may contain secrets or change the engine's behavior (proxies, preloaded
    libraries, debugging). ``home`` is where libpq looks for a user's files.
    """
    path = environment.get("PATH", os.defpath)
    return {"PATH": path, "HOME": str(home), **LOCALE, **(extra or {})}


def describe_exit(code: int) -> str:
    """Return a description of how a program ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


async def _pump(descriptor: int, on_line: OnLine) -> None:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb", 0))
    rest = b""
    try:
        while chunk := await reader.read(MAX_LINE_BYTES):
            *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                if line:
                    on_line(line)
            if len(rest) > MAX_LINE_BYTES:
                on_line(rest)
                rest = b""
    finally:
        if rest:
            on_line(rest)
        transport.close()
