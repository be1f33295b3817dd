"""What is told when the operating system refuses work on a file of ours: what, where, what to do.

Pure: it only reads the error. What is no file's (a connection's) is nobody's business here.
"""

import errno
import os
from typing import Final

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage

REFUSED: Final = frozenset({errno.EPERM, errno.EACCES})
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
PASSES: Final = FULL | {errno.EMFILE, errno.ENFILE, errno.EBUSY}
"""What others may give back or let go while somebody waits."""


def file_error(error: BaseException) -> ApiError | None:
    """Return the standard error for a refusal of work on a file; None for anything else."""
    said = file_refusal(error)
    if said is None or not isinstance(error, OSError):
        return None
    lacks = error.errno in PASSES - {errno.EBUSY}
    return ApiError(ErrorType.UNABLE_TO_ALLOCATE_RESOURCE if lacks else ErrorType.ERROR, said)


def file_refusal(error: BaseException) -> LocalizableMessage | None:
    """Return the same in words."""
    if not isinstance(error, OSError) or (where := _where(error)) is None:
        return None
    if error.errno in REFUSED:
        name = "file.refused"
    elif error.errno == errno.EROFS:
        name = "file.readonly"
    else:
        name = "file.full" if error.errno in FULL else "file.failed"
    return message(name, error.strerror or type(error).__name__, where)


def _where(error: OSError) -> str | None:
    """Return the path, or both of a file that was to be renamed; None where no file is named."""
    named = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return " -> ".join(map(os.fsdecode, named)) or None
