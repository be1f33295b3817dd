"""Whether a value is one that a setting may have."""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from openvcha.node.public_interface import MAX_CLIENT_NETWORKS
from openvcha.node.settings.findings import Finding, quoted
from openvcha.node.settings.table import LONGEST_TEXT, Form, Setting, Value

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._ -]{0,78}[A-Za-z0-9_-])?", re.ASCII)
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}", re.ASCII)
_LOCALE = re.compile(r"[A-Za-z0-9_.@-]{1,64}", re.ASCII)
_NUMERAL = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)


def checked(setting: Setting, given: object, line: int = 0) -> Value | Finding:
    """Return a value in the setting's own type and form, or what is wrong with it.

    An empty text stands for a setting that is not set, where its default is empty too.
    """
    if isinstance(setting.default, str):
        return _text(setting, given, line)
    return _number(setting, given, line)


def from_words(setting: Setting, words: str) -> object:
    """Return the value that a text on a command line stands for, not checked yet."""
    if isinstance(setting.default, str) or not _NUMERAL.fullmatch(words):
        return words
    return float(words) if "." in words else int(words)


def _number(setting: Setting, given: object, line: int) -> Value | Finding:
    whole = isinstance(setting.default, int)
    if isinstance(given, bool) or not isinstance(given, int | float):
        return _wrong(setting, given, line)
    if whole and isinstance(given, float):
        return _wrong(setting, given, line)
    if not setting.low <= given <= setting.high:  # refuses NaN too
        return _wrong(setting, given, line)
    return given if whole else float(given)


def _text(setting: Setting, given: object, line: int) -> Value | Finding:
    if not isinstance(given, str) or len(given) > LONGEST_TEXT:
        return _wrong(setting, given, line)
    if not given and not setting.default:
        return given
    if setting.choices:
        return given if given in setting.choices else _wrong(setting, given, line)
    found = _FORMS[setting.form](given)
    return _wrong(setting, given, line) if found is None else found


def _wrong(setting: Setting, given: object, line: int) -> Finding:
    return Finding(setting.key, f"is {quoted(given)}", f"allowed: {setting.allowed}", line)


def _matching(pattern: re.Pattern[str]) -> Callable[[str], str | None]:
    return lambda given: given if pattern.fullmatch(given) else None


def _account(given: str) -> str | None:
    return given if _ACCOUNT.fullmatch(given) and given != "root" else None


def _address(given: str) -> str | None:
    """Return the canonical text of an address; one with a zone is not one that nodes can share."""
    try:
        found = ipaddress.ip_address(given)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and (found.scope_id or found.ipv4_mapped):
        return None
    return str(found)


def _networks(given: str) -> str | None:
    """Return the canonical text of a list of networks."""
    parts = [part.strip() for part in given.split(",")]
    if len(parts) > MAX_CLIENT_NETWORKS or "%" in given:
        return None
    try:
        return ", ".join(str(ipaddress.ip_network(part)) for part in parts)
    except ValueError:
        return None


def _path(given: str) -> str | None:
    if not given.startswith("/") or not given.isprintable():
        return None
    return os.path.normpath(given)


_FORMS: Mapping[Form, Callable[[str], str | None]] = MappingProxyType(
    {
        Form.TEXT: lambda given: given,
        Form.NAME: _matching(_NAME),
        Form.ACCOUNT: _account,
        Form.INTERFACE: _matching(_INTERFACE),
        Form.ADDRESS: _address,
        Form.NETWORKS: _networks,
        Form.PATH: _path,
        Form.LOCALE: _matching(_LOCALE),
    }
)
