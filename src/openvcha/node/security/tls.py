"""The TLS context of a node's clients, as its files are now."""

import ssl
from pathlib import Path

from openvcha.node.layout import Layout

Stamp = tuple[tuple[int, int], ...]


class NodeTls:
    """The context; another one once the node's certificates were made anew.

    Between two of the files that belong together the last whole context goes on counting.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._stamp: Stamp = ()
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """Return the context of the moment. Raises OSError when there never was a whole one."""
        try:
            stamp = self._files()
            if self._context is None or stamp != self._stamp:
                self._context, self._stamp = self._layout.client_context(), stamp
        except OSError:  # ssl.SSLError is one
            if self._context is None:
                raise
        return self._context

    def _files(self) -> Stamp:
        layout = self._layout
        return tuple(map(_stamp, (layout.ca, layout.certificate, layout.key)))


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
