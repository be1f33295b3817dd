"""SSH connections to hosts: one for each host, which all commands share.

A host that does not answer in time is unknown, not off. A command whose connection is cut may have
run or not: whoever sent it looks again once the host can be reached.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import asyncssh

from openvcha.infrastructure.hosts.address import HostAddress
from openvcha.infrastructure.hosts.commands import (
    AccessDenied,
    HostKeyChanged,
    HostUnreachable,
    Outcome,
)

CHUNK_BYTES = 64 << 10


class UnusableKey(Exception):  # noqa: N818 - named after the condition
    """A key of ours, or one that is to be accepted, cannot be used; the text says why."""


@dataclass(frozen=True)
class SshLimits:
    """Time limits in seconds. A silent host is lost after ``keepalive`` times ``keepalives``."""

    connect: float = 10.0
    keepalive: float = 2.0
    keepalives: int = 3
    command: float = 30.0
    output_bytes: int = 1 << 20


@dataclass(frozen=True)
class SshHost:
    """A host: where it is reached, and the public keys (type and base64) that prove it."""

    address: HostAddress
    host_keys: tuple[str, ...]


@dataclass(frozen=True)
class Login:
    """How we log in: with these private keys, or (None) as the user's `ssh` would."""

    keys: tuple[Path, ...] | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of asyncssh."""
        if self.keys is None:
            return {}
        return {"client_keys": [str(path) for path in self.keys], "agent_path": None}


@dataclass
class _Slot:
    """The connection to one host, and the turn of who opens it."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    connection: asyncssh.SSHClientConnection | None = None


_LIMITS = SshLimits()


class Ssh:
    """The connections of one event loop. Close it, or use it in `async with`."""

    def __init__(self, login: Login, limits: SshLimits = _LIMITS) -> None:
        self._login = login
        self._limits = limits
        self._slots: dict[SshHost, _Slot] = {}

    async def __aenter__(self) -> Self:
        """Return the connections."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        slots, self._slots = self._slots, {}
        for slot in slots.values():
            if slot.connection is not None:
                slot.connection.abort()
                await slot.connection.wait_closed()

    async def run(
        self, host: SshHost, command: str, *, stdin: bytes = b"", seconds: float | None = None
    ) -> Outcome:
        """Run a shell command.

        Raises HostUnreachable: then it may have run, or not; UnusableKey.
        """
        limit = self._limits.command if seconds is None else seconds
        try:
            async with asyncio.timeout(limit):
                connection = await self._connection(host)
                return await self._carry_out(connection, command, stdin)
        except TimeoutError as error:
            late = f"{host.address} has not answered within {limit:g} s"
            raise HostUnreachable(late) from error
        except (OSError, asyncssh.Error) as error:
            raise _unreachable(host.address, error) from error

    async def _connection(self, host: SshHost) -> asyncssh.SSHClientConnection:
        slot = self._slots.setdefault(host, _Slot())
        async with slot.turn:
            if slot.connection is None or slot.connection.is_closed():
                slot.connection = await self._connect(host)
            return slot.connection

    async def _connect(self, host: SshHost) -> asyncssh.SSHClientConnection:
        try:
            keys = [asyncssh.import_public_key(key) for key in host.host_keys]
            return await asyncssh.connect(
                host.address.host,
                host.address.port,
                username=host.address.user,
                known_hosts=(keys, [], []),
                config=None,
                preferred_auth="publickey",
                connect_timeout=self._limits.connect,
                login_timeout=self._limits.connect,
                keepalive_interval=self._limits.keepalive,
                keepalive_count_max=self._limits.keepalives,
                **self._login.options(),
            )
        except (asyncssh.KeyImportError, FileNotFoundError) as error:
            raise UnusableKey(f"cannot log in to {host.address}: {error}") from error

    async def _carry_out(
        self, connection: asyncssh.SSHClientConnection, command: str, stdin: bytes
    ) -> Outcome:
        process = await connection.create_process(command, encoding=None)
        try:
            output, errors, _ = await asyncio.gather(
                self._read(process.stdout), self._read(process.stderr), _feed(process, stdin)
            )
            await process.wait()
        finally:
            process.close()
        if process.returncode is None:
            raise HostUnreachable("the connection was lost before the command's result was known")
        return Outcome(process.returncode, output, errors)

    async def _read(self, stream: "asyncssh.SSHReader[bytes]") -> str:
        """Return all that a program says. Raises HostUnreachable if that is too much."""
        parts: list[bytes] = []
        left = self._limits.output_bytes
        while chunk := await stream.read(CHUNK_BYTES):
            parts.append(chunk)
            left -= len(chunk)
            if left < 0:
                limit = self._limits.output_bytes
                raise HostUnreachable(f"a command printed more than {limit} bytes")
        return b"".join(parts).decode(errors="replace")


async def _feed(process: "asyncssh.SSHClientProcess[bytes]", stdin: bytes) -> None:
    # A program may end without reading all of it.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for at in range(0, len(stdin), CHUNK_BYTES):
            process.stdin.write(stdin[at : at + CHUNK_BYTES])
            await process.stdin.drain()
        process.stdin.write_eof()


async def offered_key(address: HostAddress, limits: SshLimits = _LIMITS) -> str:
    """Return the public key that a host offers, type and base64: it proves nothing yet.

    Raises HostUnreachable.
    """
    try:
        async with asyncio.timeout(limits.connect):
            key = await asyncssh.get_server_host_key(address.host, address.port, config=None)
    except TimeoutError as error:
        raise HostUnreachable(f"{address} has not answered within {limits.connect:g} s") from error
    except (OSError, asyncssh.Error) as error:
        raise _unreachable(address, error) from error
    if key is None:
        raise HostUnreachable(f"{address} has no host key")
    return _text(key)


def known_keys(file: Path, address: HostAddress) -> tuple[str, ...]:
    """Return the keys of a host in a `known_hosts` file; none if there is no such file.

    Raises UnusableKey if it is in another form.
    """
    try:
        found = asyncssh.match_known_hosts(str(file), address.host, "", address.port)
    except FileNotFoundError:
        return ()
    except ValueError as error:
        raise UnusableKey(f"{file} is not a file of known hosts: {error}") from error
    keys: Sequence[asyncssh.SSHKey] = found[0]
    return tuple(map(_text, keys))


def _text(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])


def _unreachable(address: HostAddress, error: Exception) -> HostUnreachable:
    said = str(error) or type(error).__name__
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return HostKeyChanged(
                f"{address} presents a different host key than the known one: {said}"
            )
        case asyncssh.PermissionDenied():
            return AccessDenied(f"{address} refuses the login: {said}")
        case OSError() if error.strerror:
            return HostUnreachable(f"{address} cannot be reached: {error.strerror}")
    return HostUnreachable(f"{address} cannot be reached: {said}")
