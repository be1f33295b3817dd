"""Values of PostgreSQL's TLS settings that do not fit.

PostgreSQL accepts them at a reload and keeps the old ones; its next start fails, as would the start
of a new node.
"""

import ssl
from collections.abc import Mapping
from typing import Final

MINIMUM, MAXIMUM = "ssl_min_protocol_version", "ssl_max_protocol_version"
_VERSIONS = ("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
_OLDEST_OF_CLIENTS = "tlsv1.2"
"""The oldest version that libpq, and so the cluster's own sessions, agree to by default."""
_CURVES = frozenset({"prime256v1", "secp384r1", "secp521r1"})
_GROUPS = _CURVES | {"secp256r1", "P-256", "P-384", "P-521", "X25519", "X448", "x25519", "x448"}
_TLS13_CIPHERS = frozenset(
    {
        "TLS_AES_128_CCM_8_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    }
)
TLS_VALUES: Final = frozenset(
    {MAXIMUM, MINIMUM, "ssl_ciphers", "ssl_ecdh_curve", "ssl_groups", "ssl_tls13_ciphers"}
)
"""The settings that are checked here."""


def fits(name: str, values: Mapping[str, str]) -> bool:
    """Return whether the value of one of ``TLS_VALUES`` fits; ``values`` has that of each setting.

    A curve, group or cipher of TLS 1.3 that is unknown here does not.
    """
    value = values[name]
    match name:
        case "ssl_ciphers":
            return _selects_ciphers(value)
        case "ssl_ecdh_curve":
            return value in _CURVES
        case "ssl_groups":
            return _GROUPS.issuperset(value.split(":"))
        case "ssl_tls13_ciphers":
            return not value or _TLS13_CIPHERS.issuperset(value.split(":"))
    return _is_range(values.get(MINIMUM, _OLDEST_OF_CLIENTS), values.get(MAXIMUM, ""))


def _selects_ciphers(value: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(value)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _is_range(oldest: str, newest: str) -> bool:
    """Return whether there is a version between the two that the cluster's own sessions use."""
    oldest, newest = oldest.lower(), newest.lower() or _VERSIONS[-1]
    if oldest not in _VERSIONS or newest not in _VERSIONS:
        return False
    first = max(_VERSIONS.index(oldest), _VERSIONS.index(_OLDEST_OF_CLIENTS))
    return first <= _VERSIONS.index(newest)
