"""Errors of the operating system are reported with the file, the reason and the remedy."""

import errno
import os
import shutil

import pytest

from openvcha.api.errors import ErrorType
from openvcha.api.file_errors import file_error, file_refusal
from openvcha.system.files.rmtree_errors import FULL_PATH_ERRORS


def refusal(number: int, *names: object) -> OSError:
    error = OSError(number, os.strerror(number))
    error.filename, error.filename2 = (*names, None, None)[:2]
    return error


@pytest.mark.parametrize(
    ("number", "kind", "does"),
    [
        (errno.EPERM, ErrorType.ERROR, "lsattr"),
        (errno.EACCES, ErrorType.ERROR, "owner"),
        (errno.EROFS, ErrorType.ERROR, "is not writable"),
        (errno.ENOSPC, ErrorType.UNABLE_TO_ALLOCATE_RESOURCE, "space"),
        (errno.EMFILE, ErrorType.UNABLE_TO_ALLOCATE_RESOURCE, ""),
        (errno.EIO, ErrorType.ERROR, ""),
    ],
)
def test_a_file_is_named_with_the_reason(number: int, kind: ErrorType, does: str) -> None:
    """In words, with a remedy if one is known."""
    error = file_error(refusal(number, "/srv/node/pgdata/1"))
    assert error is not None
    assert error.error_type is kind
    text = error.messages[0].default_message
    assert text.startswith(f"{os.strerror(number)}: /srv/node/pgdata/1.")
    assert does in text


def test_both_names_of_a_file_that_was_to_be_renamed_are_told() -> None:
    """Either of them may be the reason."""
    said = file_refusal(refusal(errno.EXDEV, b"/a", "/b"))
    assert said is not None
    assert "/a -> /b" in said.default_message


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(errno.ECONNREFUSED, "no"), refusal(errno.EBADF, 7), TimeoutError()],
)
def test_what_names_no_file_is_none(error: OSError) -> None:
    """A connection, a descriptor, a deadline."""
    assert (file_refusal(error), file_error(error)) == (None, None)


def test_a_tree_that_cannot_be_deleted_names_the_whole_path() -> None:
    """Also before Python 3.12. Not even root can delete the kernel's own files."""
    with pytest.raises(OSError, match="Operation not permitted") as caught:
        shutil.rmtree("/proc/self/attr", **FULL_PATH_ERRORS)
    assert os.path.dirname(caught.value.filename) == "/proc/self/attr"  # noqa: PTH120 - a string
