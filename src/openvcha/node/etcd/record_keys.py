"""The current keys with which a data node seals records."""

from collections.abc import Sequence
from pathlib import Path

from openvcha.api.secret import Secret
from openvcha.node.identity import SECRETS, load_secrets


class RecordKeys:
    """The keys, reread when the file changes: a rotation replaces it while the node runs."""

    def __init__(self, root: Path) -> None:
        self._path = root / SECRETS
        self._stamp: tuple[int, int] | None = None
        self._keys: tuple[Secret, ...] = ()

    def __call__(self) -> Sequence[Secret]:
        """Return the keys; the first one is for sealing. Raises OSError, msgspec.DecodeError."""
        found = self._path.stat()
        stamp = found.st_mtime_ns, found.st_ino
        if stamp != self._stamp:
            secrets = load_secrets(self._path.parent)
            self._keys = tuple(key for key in (secrets.records, secrets.records_before) if key)
            self._stamp = stamp
        return self._keys
