"""The TLS context of a node's clients, from its current files."""

import os
import ssl

from openvcha.node.layout import Layout

Stamp = tuple[tuple[int, int], ...]


class NodeTls:
    """The TLS context, replaced when the node's certificates are replaced.

    While the files do not match (they are being replaced), the last valid context is used.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        # Every request checks them: building their names would take longer than the check.
        self._paths = tuple(map(os.fspath, (layout.ca, layout.certificate, layout.key)))
        self._stamp: Stamp = ()
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """Return the current context. Raises OSError if there never was a valid one."""
        try:
            stamp = self._files()
            if self._context is None or stamp != self._stamp:
                self._context, self._stamp = self._layout.client_context(), stamp
        except OSError:  # includes ssl.SSLError
            if self._context is None:
                raise
        return self._context

    def _files(self) -> Stamp:
        return tuple(map(_stamp, self._paths))


def _stamp(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - Path's own takes several times as long
    return found.st_ino, found.st_mtime_ns
