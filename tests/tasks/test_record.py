"""What is stored of a task, what never is, and what a caller sees."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.secret import Secret
from openvcha.api.structures import (
    CertificateInfo,
    ConnectionSpec,
    LocalizableMessage,
    TaskProgress,
    TaskStatus,
)
from openvcha.api.types import Opaque
from openvcha.tasks.record import (
    MAX_ARGUMENTS_BYTES,
    MAX_ERROR_BYTES,
    MAX_PART_BYTES,
    ErrorRecord,
    TaskRecord,
    bounded_arguments,
    bounded_part,
    error_record,
    to_info,
    to_plain,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def a_record(**values: Any) -> TaskRecord:
    """Return a PENDING record with some fields changed."""
    description = message("passive.redeploy")
    record = TaskRecord(
        id="t",
        description=description,
        service="com.vmware.vcenter.vcha.cluster.passive",
        operation="redeploy$task",
        created=NOW,
        status=TaskStatus.PENDING,
        progress=TaskProgress(total=100, completed=0, message=description),
        cancelable=True,
        may_cancel=True,
    )
    return msgspec.structs.replace(record, **values)


def at_rest(error: ErrorRecord) -> ErrorRecord:
    """Return an error as it is read back from the store."""
    return msgspec.json.decode(msgspec.json.encode(error), type=ErrorRecord)


@pytest.mark.parametrize(
    "value",
    [
        Secret("hunter2"),
        {"a": [1, {"b": Secret("hunter2")}]},
        [frozenset({Secret("hunter2")})],
        ConnectionSpec(hostname="vc", password=Secret("hunter2")),
    ],
)
def test_a_secret_is_refused_wherever_it_hides(value: Any) -> None:
    """A value with a Secret anywhere inside is a TypeError, whose text has no secret."""
    with pytest.raises(TypeError, match="never holds a secret") as caught:
        to_plain(value)
    assert "hunter2" not in str(caught.value)


def test_what_json_cannot_hold_is_refused() -> None:
    """A value of another type is a TypeError, not a repr in the record."""
    with pytest.raises(TypeError):
        to_plain({"a": object()})


def test_a_part_has_a_bound() -> None:
    """What is too large for a record is refused before it is written."""
    assert bounded_part("x" * 1000)
    with pytest.raises(ValueError, match="more than a task's record takes"):
        bounded_part("x" * MAX_PART_BYTES)


def test_an_error_comes_back_as_it_was_raised() -> None:
    """Type, messages and data survive the store; data is the structure again."""
    error = ApiError(
        ErrorType.UNVERIFIED_PEER,
        message("peer.unverified", "vc"),
        message("wait.timeout", "1"),
        data=CertificateInfo(ssl_thumbprint="AA:BB", ssl_certificate="PEM"),
    )
    assert at_rest(error_record(error)).to_error() == error


def test_data_of_an_unknown_structure_are_left_out() -> None:
    """A record of another version is still shown."""
    kept = ErrorRecord(error_type=ErrorType.ERROR, data_type="com.example.later", data={"a": 1})
    assert at_rest(kept).to_error() == ApiError(ErrorType.ERROR)


def test_a_large_error_keeps_what_fits() -> None:
    """Data is dropped first, then the last causes; the type always stays. Texts are cut before."""
    small = message("task.canceled")
    large = LocalizableMessage(id="x" * MAX_ERROR_BYTES, default_message="x", args=())
    data = CertificateInfo(ssl_thumbprint="AA", ssl_certificate="x" * MAX_ERROR_BYTES)
    without_data = error_record(ApiError(ErrorType.ERROR, small, data=data)).to_error()
    assert without_data == ApiError(ErrorType.ERROR, small)
    assert error_record(ApiError(ErrorType.ERROR, small, large)).messages == (small,)
    replaced = error_record(ApiError(ErrorType.ERROR, large)).messages
    assert replaced == (message("task.error.large"),)
    (cut,) = error_record(ApiError(ErrorType.ERROR, message("users.unknown", "x" * 1000))).messages
    assert cut.args[0].endswith("…")


def test_arguments_have_a_bound_that_a_caller_is_told() -> None:
    """They cannot be cut, as the task depends on them."""
    assert bounded_arguments({"name": "x" * 1000})
    with pytest.raises(ApiError, match="INVALID_ARGUMENT: The arguments take"):
        bounded_arguments({"name": "x" * MAX_ARGUMENTS_BYTES})


def test_a_pending_task_shows_nothing_of_a_run() -> None:
    """Clients refuse progress and times of a task that has not begun."""
    info = to_info(a_record())
    assert (info.progress, info.start_time, info.end_time, info.error) == (None,) * 4


def test_a_succeeded_task_shows_no_error() -> None:
    """Clients refuse an error beside SUCCEEDED."""
    error = error_record(ApiError(ErrorType.ERROR))
    info = to_info(a_record(status=TaskStatus.SUCCEEDED, start_time=NOW, end_time=NOW, error=error))
    assert info.error is None
    assert (info.start_time, info.end_time) == (NOW, NOW)


def test_the_result_is_shown_unless_left_out() -> None:
    """A result is decoded as its type when that is known, otherwise as the stored JSON."""
    made = CertificateInfo(ssl_thumbprint="AA")
    record = a_record(status=TaskStatus.SUCCEEDED, result=to_plain(made))
    assert to_info(record).result == Opaque(None, {"ssl_thumbprint": "AA"})
    typed = to_info(record, result_type=CertificateInfo)
    assert typed.result == Opaque(CertificateInfo, made)
    assert to_info(record, exclude_result=True).result is None


def test_a_record_of_a_later_version_can_be_read() -> None:
    """Unknown fields are ignored, as during an upgrade."""
    known = msgspec.to_builtins(a_record())
    assert msgspec.convert({**known, "later": 1}, TaskRecord) == a_record()
