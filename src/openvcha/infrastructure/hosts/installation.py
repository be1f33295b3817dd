"""Making a host ready: the commands of its findings, one after the other."""

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from openvcha.infrastructure.hosts.checks import WHEELS
from openvcha.infrastructure.hosts.commands import Runner, last_words, script

COPY_SECONDS = 600.0
COMMAND_SECONDS = 1800.0
"""A package that is configured on a slow disk takes minutes."""
REQUIREMENTS = "requirements.txt"
UNPACK = 'umask 022 && rm -rf "$1" && mkdir -p "$1" && tar -x -C "$1" --no-same-owner'

Show = Callable[[str], None]


class InstallationFailed(Exception):  # noqa: N818 - named after the condition
    """A command of the installation failed on the host; the text says which and why."""


async def copy_wheels(run: Runner, directory: Path, *, root: bool, show: Show) -> None:
    """Copy a wheelhouse to the host. Raises InstallationFailed, HostUnreachable, OSError."""
    packed = pack(directory)
    show(f"copy {directory} to {WHEELS} ({len(packed) >> 20} MiB)")
    outcome = await run(script(UNPACK, WHEELS, root=root), stdin=packed, seconds=COPY_SECONDS)
    if outcome.code != 0:
        raise InstallationFailed(f"the wheels could not be copied: {last_words(outcome)}")


def pack(directory: Path) -> bytes:
    """Return a wheelhouse as a tar archive. Raises InstallationFailed if it is none, OSError."""
    files = sorted(path for path in directory.iterdir() if path.suffix == ".whl")
    requirements = directory / REQUIREMENTS
    if not files or not requirements.is_file():
        raise InstallationFailed(
            f"{directory} is not a wheelhouse: `./dev wheelhouse {directory}` makes one"
        )
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in (*files, requirements):
            tar.add(path, arcname=path.name, filter=_anonymous)
    return archive.getvalue()


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o644
    return entry


async def carry_out(run: Runner, commands: Sequence[str], *, root: bool, show: Show) -> None:
    """Run the commands in order; stop at the first that fails.

    Raises InstallationFailed, HostUnreachable. Each of them may be repeated.
    """
    for command in commands:
        show(command)
        outcome = await run(script(command, root=root), seconds=COMMAND_SECONDS)
        if outcome.code != 0:
            raise InstallationFailed(f"`{command}` failed: {last_words(outcome)}")
