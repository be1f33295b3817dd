"""Leaving root with a few of its capabilities, for a program that needs no more."""

import ctypes
import os
import struct
from collections.abc import Collection
from enum import IntEnum
from typing import Final

_SET_KEEP_CAPABILITIES, _DROP_FROM_BOUNDS, _NO_NEW_PRIVILEGES = 8, 24, 38  # prctl
_VERSION: Final = 0x20080522
_HEADER: Final = struct.Struct("=Ii")
_SETS: Final = struct.Struct("=6I")  # effective, permitted, inheritable; once for each 32
_BITS: Final = 32
_LAST: Final = "/proc/sys/kernel/cap_last_cap"


class Capability(IntEnum):
    """The capabilities that a program of ours keeps, with the kernel's numbers."""

    NET_ADMIN = 12
    NET_RAW = 13


def become(uid: int, gid: int, keep: Collection[Capability]) -> None:
    """Become an account with only these capabilities, for good. Call it as root.

    No program started from here gets any privilege. Raises OSError.
    """
    with open(_LAST, encoding="ascii") as file:  # noqa: PTH123 - /proc
        last = int(file.read())
    for number in range(last + 1):
        if number not in keep:
            _control(_DROP_FROM_BOUNDS, number)
    _control(_SET_KEEP_CAPABILITIES, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _set(sum(1 << number for number in keep))
    _control(_NO_NEW_PRIVILEGES, 1)


def _set(mask: int) -> None:
    low, high = mask & (1 << _BITS) - 1, mask >> _BITS
    header, sets = _HEADER.pack(_VERSION, 0), _SETS.pack(low, low, 0, high, high, 0)
    _call("capset", header, sets)


def _control(option: int, value: int) -> None:
    _call("prctl", option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3)


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
