"""A process's connections, as the kernel reports them."""

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ESTABLISHED = "01"


@dataclass(frozen=True)
class Connection:
    """An established TCP connection over IPv4 of a process."""

    local_port: int
    remote: str
    remote_port: int


def connections(pid: int) -> list[Connection]:
    """Return the connections of a process. Raise OSError when it has ended."""
    own = set(_targets(pid))
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if state == ESTABLISHED and f"socket:[{rest[5]}]" in own:
            found.append(Connection(_port(local), _address(remote), _port(remote)))
    return found


def descriptors(pid: int) -> int:
    """Return the number of open descriptors of a process. Raise OSError when it has ended."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _targets(pid: int) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it may have been closed meanwhile
            yield str(entry.readlink())


def _port(place: str) -> int:
    return int(place.partition(":")[2], 16)


def _address(place: str) -> str:
    number = int(place.partition(":")[0], 16).to_bytes(4, "little")  # as the kernel formats it
    return str(ipaddress.IPv4Address(number))
