"""Structures made ready to be read before any thread meets them.

msgspec 0.22 finds out how a structure is read when it is read for the first time. Another thread
that reads the same one meanwhile finds half of that, and the process ends with SIGSEGV. So each
module that has structures ends with ``prepare(__name__)``: then they are ready once it is imported.
"""

import sys

import msgspec


def prepare(module: str) -> None:
    """Make all structures of a module ready. Raises TypeError for one that cannot be read."""
    for value in list(vars(sys.modules[module]).values()):
        if isinstance(value, type) and issubclass(value, msgspec.Struct):
            msgspec.json.Decoder(value)
