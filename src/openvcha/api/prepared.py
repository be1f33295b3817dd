"""Decoders of structures, built before any thread uses them.

msgspec 0.22 builds the decoder of a structure on its first use. If another thread decodes the same
structure meanwhile, it finds the decoder half-built, and the process dies of SIGSEGV. So each
module with structures ends with ``prepare(__name__)``, which builds the decoders during the import.
"""

import sys

import msgspec


def prepare(module: str) -> None:
    """Build the decoders of all structures of a module. Raises TypeError if one is unsupported."""
    for value in list(vars(sys.modules[module]).values()):
        if isinstance(value, type) and issubclass(value, msgspec.Struct):
            msgspec.json.Decoder(value)
