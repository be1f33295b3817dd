"""Errors for file operations that the operating system refuses: the cause, the file, the remedy.

Pure: only the error is read. An OSError that names no file (e.g. of a connection) is ignored.
"""

import errno
import os
from typing import Final

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage

DENIED: Final = frozenset({errno.EPERM, errno.EACCES})
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
TRANSIENT: Final = NO_SPACE | {errno.EMFILE, errno.ENFILE, errno.EBUSY}
"""Errors that may pass while a caller waits: other processes may free the resource."""


def file_error(error: BaseException) -> ApiError | None:
    """Return the standard error for a refused file operation; None for any other error."""
    refusal = file_refusal(error)
    if refusal is None or not isinstance(error, OSError):
        return None
    lacks = error.errno in TRANSIENT - {errno.EBUSY}
    return ApiError(ErrorType.UNABLE_TO_ALLOCATE_RESOURCE if lacks else ErrorType.ERROR, refusal)


def file_refusal(error: BaseException) -> LocalizableMessage | None:
    """Return the message for a refused file operation; None for any other error."""
    if not isinstance(error, OSError) or (where := _where(error)) is None:
        return None
    if error.errno in DENIED:
        name = "file.refused"
    elif error.errno == errno.EROFS:
        name = "file.readonly"
    else:
        name = "file.full" if error.errno in NO_SPACE else "file.failed"
    return message(name, error.strerror or type(error).__name__, where)


def _where(error: OSError) -> str | None:
    """Return the path, or both paths of a rename; None if the error names no file."""
    named = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return " -> ".join(map(os.fsdecode, named)) or None
