"""The files with which systemd runs nodes: their contents and places, and putting them there."""

import enum
import importlib.resources
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openvcha.system.files.durable import write_durably

FILES = importlib.resources.files("openvcha.node.service_manager") / "files"
SYSTEMCTL = "/usr/bin/systemctl"
PUBLIC = 0o644
SUDOERS = 0o440
"""sudo ignores a file that others may read or write."""
PLAIN_PATH = re.compile(r"/[\w./+@-]+", re.ASCII)
"""Neither systemd nor sudo gives any of these characters a meaning of its own."""

NODES = {
    "openvcha-node@.service": "etc/systemd/system/openvcha-node@.service",
    "openvcha-address@.service": "etc/systemd/system/openvcha-address@.service",
    "openvcha-address.target": "etc/systemd/system/openvcha-address.target",
    "sysusers.conf": "etc/sysusers.d/openvcha.conf",
    "tmpfiles.conf": "etc/tmpfiles.d/openvcha.conf",
}
SSH = {
    "sudoers": "etc/sudoers.d/openvcha",
    "sshd.conf": "etc/ssh/sshd_config.d/openvcha.conf",
}
CREATE = (
    ("systemd-sysusers", "openvcha.conf"),
    ("systemd-tmpfiles", "--create", "openvcha.conf"),
)
"""They make the account and the directories, also where systemd does not run."""
RELOAD = (SYSTEMCTL, "daemon-reload")
RELOAD_SSH = (SYSTEMCTL, "try-reload-or-restart", "ssh.service")
RUNS = Path("/run/systemd/system")
"""It exists where systemd is the service manager."""


class UnusablePath(ValueError):  # noqa: N818 - named after the condition
    """A path of the program that cannot stand in a unit; the text says why."""


class Outcome(enum.StrEnum):
    """What became of a file."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class InstalledFile:
    """A file: its path below the root, its content and its mode."""

    path: str
    content: bytes
    mode: int


def installed_files(program: Path, *, ssh: bool) -> Iterator[InstalledFile]:
    """Yield the files of nodes that `program` runs; with ``ssh``, those of access by SSH too.

    Raises UnusablePath.
    """
    if not PLAIN_PATH.fullmatch(str(program)):
        raise UnusablePath(
            f"{str(program)!r} must be an absolute path of letters, digits and ./+@_-: choose"
            " another with --program"
        )
    values = {"@VCHA@": str(program), "@SYSTEMCTL@": SYSTEMCTL}
    for name, path in {**NODES, **(SSH if ssh else {})}.items():
        text = (FILES / name).read_text()
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        yield InstalledFile(path, text.encode(), SUDOERS if name == "sudoers" else PUBLIC)


def install(root: Path, file: InstalledFile) -> Outcome:
    """Write a file below the root, unless it is there already. Raises OSError."""
    path = root / file.path
    try:
        if path.read_bytes() == file.content and path.stat().st_mode & 0o7777 == file.mode:
            return Outcome.UNCHANGED
    except FileNotFoundError:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_durably(path, file.content, file.mode)
    return Outcome.WRITTEN


def commands_after(*, ssh: bool, systemd_runs: bool) -> Sequence[tuple[str, ...]]:
    """Return the commands that make the files count on the machine that has them."""
    if not systemd_runs:
        return CREATE
    return (*CREATE, RELOAD, *((RELOAD_SSH,) if ssh else ()))
