"""Public keys of hosts, as `known_hosts` has them: pure, without a library of SSH."""

import base64
import binascii
import hashlib

TYPES = frozenset(
    {
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-rsa",
    }
)
MAX_LENGTH = 4096
LENGTH_BYTES = 4


class UnusableHostKey(ValueError):  # noqa: N818 - named after the condition
    """A text that is no public key of a host; it says why."""


def checked(text: str) -> str:
    """Return a key as type and base64, without a comment. Raises UnusableHostKey."""
    words = text[: MAX_LENGTH + 1].split()
    if len(text) > MAX_LENGTH or len(words) < 2:
        raise UnusableHostKey("write its type and base64, as ssh_host_ed25519_key.pub has them")
    kind, encoded = words[:2]
    if kind not in TYPES:
        raise UnusableHostKey(f"its type must be one of {', '.join(sorted(TYPES))}")
    blob = _decoded(encoded)
    length = int.from_bytes(blob[:LENGTH_BYTES], "big")
    if blob[LENGTH_BYTES : LENGTH_BYTES + length] != kind.encode() or len(blob) < 40:
        raise UnusableHostKey("its base64 is not of that type")
    return f"{kind} {encoded}"


def fingerprint(key: str) -> str:
    """Return a key's SHA256:… as `ssh-keygen -l` shows it. Raises UnusableHostKey."""
    digest = hashlib.sha256(_decoded(checked(key).split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as error:
        raise UnusableHostKey("its base64 is broken") from error
