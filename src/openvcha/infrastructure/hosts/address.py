"""Where a host is reached: [USER@]HOST[:PORT], an IPv6 address in brackets if a port follows."""

import ipaddress
import re
from dataclasses import dataclass

from openvcha.system.network.host_port import host_port

SSH_PORT = 22
MAX_SHOWN = 100
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_PARTS = re.compile(r"(?:(?P<user>[^@]*)@)?(?:\[(?P<six>[^]]*)\]|(?P<host>.*?))(?::(?P<port>\d+))?")


class UnusableAddress(ValueError):  # noqa: N818 - named after the condition
    """A text that names no host; the text says why."""


@dataclass(frozen=True)
class HostAddress:
    """An account on a host; ``host`` is a name or an IP address."""

    user: str
    host: str
    port: int = SSH_PORT

    def __str__(self) -> str:
        """Return it as a person writes it."""
        where = self.host if self.port == SSH_PORT else host_port(self.host, self.port)
        return f"{self.user}@{where}"


def parse_address(text: str, default_user: str) -> HostAddress:
    """Return where a host is reached. Raises UnusableAddress."""
    found = None if _is_ipv6(text.rpartition("@")[2]) else _PARTS.fullmatch(text)
    user, _, host = text.rpartition("@")
    port: str | None = None
    if found:
        user, host, port = found["user"] or "", found["six"] or found["host"] or "", found["port"]
        if "@" in text and not user:
            raise _unusable(text, "the user before @ is missing")
        if found["six"] is not None and not _is_ipv6(host):
            raise _unusable(text, "brackets are only for IPv6 addresses")
    if not _USER.fullmatch(user or default_user):
        raise _unusable(text, "the user is not a valid account name")
    if not (_is_ipv6(host) or _NAME.fullmatch(host)):
        raise _unusable(text, "the host is neither a name nor an IP address")
    number = int(port) if port else SSH_PORT
    if not 0 < number < 1 << 16:
        raise _unusable(text, "a port is from 1 to 65535")
    return HostAddress(user or default_user, host, number)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _unusable(text: str, reason: str) -> UnusableAddress:
    return UnusableAddress(
        f"{text[:MAX_SHOWN]!r} is not valid ({reason}): write [USER@]HOST[:PORT]"
    )
