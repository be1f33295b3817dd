"""Parsing the URL of a server, https://HOST:PORT."""

import dataclasses
import ipaddress
import re
from urllib.parse import urlsplit

from openvcha.client.errors import CommandError
from openvcha.system.network.host_port import url

DEFAULT_PORT = 443
MAX_SHOWN = 100
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_MAX_NAME_LENGTH = 253


@dataclasses.dataclass(frozen=True)
class ServerAddress:
    """A server's address; a host name is in ASCII."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Return https://HOST:PORT, an IPv6 address in brackets."""
        return url(self.host, self.port)


def parse_server(text: str) -> ServerAddress:
    """Parse https://HOST:PORT. Raises CommandError if it is invalid."""
    try:
        return _parsed(text)
    except ValueError as error:
        shown = repr(text[:MAX_SHOWN])
        raise CommandError(f"{shown} is not a server ({error}): write https://HOST:PORT") from None


def _parsed(text: str) -> ServerAddress:
    if not text.isprintable() or " " in text:
        raise ValueError("it contains a space or a control character")
    parts = urlsplit(text)
    if parts.scheme != "https":
        raise ValueError("it does not begin with https://")
    if "@" in parts.netloc:
        raise ValueError("pass the user's name with --user")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("unexpected text after the host and port")
    host = parts.hostname or ""
    if "[" in parts.netloc:
        if not re.fullmatch(r"\[[^\]]*\](:.*)?", parts.netloc):
            raise ValueError("the text in brackets is not an IPv6 address")
        return ServerAddress(str(ipaddress.IPv6Address(host)), _port(parts.netloc))
    return ServerAddress(_name(host), _port(parts.netloc))


def _port(netloc: str) -> int:
    written = re.search(r":([^:\]]*)$", netloc)
    if written is None:
        return DEFAULT_PORT
    digits = written[1]
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 0 < int(digits) < 1 << 16:
        raise ValueError("the port is not a number from 1 to 65535")
    return int(digits)


def _name(name: str) -> str:
    if re.search(r"(^|\.)[0-9]+$", name):
        return str(ipaddress.IPv4Address(name))
    try:
        found = name.encode("idna").decode()
    except UnicodeError:
        raise ValueError("that is not a valid host name") from None
    labels = found.removesuffix(".").split(".")
    if len(found) > _MAX_NAME_LENGTH or not all(_LABEL.fullmatch(each) for each in labels):
        raise ValueError("that is not a valid host name")
    return found
