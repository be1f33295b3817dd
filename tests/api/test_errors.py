"""The standard errors: their statuses and their bodies in the three protocols."""

import pytest

from openvcha.api.codec.decode import decode_error_rest, decode_error_vapi
from openvcha.api.codec.encode import encode_error_legacy, encode_error_rest, encode_error_vapi
from openvcha.api.errors import LEGACY_STATUS, STATUS, ApiError, ErrorType, fail
from openvcha.api.messages import message
from openvcha.api.structures import CertificateInfo, LocalizableMessage

# As the table of api.md has them.
TABLE = {
    400: "ALREADY_EXISTS ALREADY_IN_DESIRED_STATE CANCELED FEATURE_IN_USE INVALID_ARGUMENT "
    "INVALID_ELEMENT_CONFIGURATION INVALID_ELEMENT_TYPE INVALID_REQUEST "
    "NOT_ALLOWED_IN_CURRENT_STATE RESOURCE_IN_USE UNEXPECTED_INPUT UNSUPPORTED UNVERIFIED_PEER",
    401: "UNAUTHENTICATED",
    403: "UNAUTHORIZED",
    404: "NOT_FOUND OPERATION_NOT_FOUND",
    409: "CONCURRENT_CHANGE",
    500: "ERROR INTERNAL_SERVER_ERROR RESOURCE_BUSY RESOURCE_INACCESSIBLE "
    "UNABLE_TO_ALLOCATE_RESOURCE",
    503: "SERVICE_UNAVAILABLE",
    504: "TIMED_OUT",
}

BUSY = message("vapi.data.structure.field.missing", "spec.placement")
BUSY_BODY = {
    "id": "vapi.data.structure.field.missing",
    "default_message": "spec.placement is missing.",
    "args": ["spec.placement"],
}
PEER = CertificateInfo(ssl_thumbprint="AA:BB", ssl_certificate="PEM")


def test_statuses_on_api() -> None:
    """All 25 types have the table's status."""
    expected = {
        ErrorType(name): status for status, names in TABLE.items() for name in names.split()
    }
    assert expected == STATUS
    assert len(STATUS) == 25


def test_statuses_on_rest() -> None:
    """On /rest ERROR and the RESOURCE_ ones are 400, the others as on /api."""
    for error in ErrorType:
        lowered = error is ErrorType.ERROR or error.value.startswith("RESOURCE_")
        assert LEGACY_STATUS[error] == (400 if lowered else STATUS[error])


def test_body_on_api() -> None:
    """Type and messages; data and challenge only where there are any."""
    assert encode_error_rest(ApiError(ErrorType.ERROR, BUSY)) == {
        "error_type": "ERROR",
        "messages": [BUSY_BODY],
    }
    assert encode_error_rest(ApiError(ErrorType.UNVERIFIED_PEER, data=PEER)) == {
        "error_type": "UNVERIFIED_PEER",
        "messages": [],
        "data": {"ssl_thumbprint": "AA:BB", "ssl_certificate": "PEM"},
    }
    assert encode_error_rest(ApiError(ErrorType.UNAUTHENTICATED, challenge="Basic")) == {
        "error_type": "UNAUTHENTICATED",
        "messages": [],
        "challenge": "Basic",
    }


def test_body_on_rest() -> None:
    """The legacy body names the error's structure."""
    assert encode_error_legacy(ApiError(ErrorType.INVALID_ARGUMENT, BUSY)) == {
        "type": "com.vmware.vapi.std.errors.invalid_argument",
        "value": {"error_type": "INVALID_ARGUMENT", "messages": [BUSY_BODY]},
    }


def test_body_in_vapi() -> None:
    """Every field is there, wrapped; the challenge only where the structure has one."""
    wrapped = {
        "STRUCTURE": {
            "com.vmware.vapi.std.localizable_message": {
                **BUSY_BODY,
                "params": {"OPTIONAL": None},
                "localized": {"OPTIONAL": None},
            }
        }
    }
    assert encode_error_vapi(ApiError(ErrorType.UNAUTHENTICATED, BUSY, challenge="Basic")) == {
        "ERROR": {
            "com.vmware.vapi.std.errors.unauthenticated": {
                "messages": [wrapped],
                "data": {"OPTIONAL": None},
                "error_type": {"OPTIONAL": "UNAUTHENTICATED"},
                "challenge": {"OPTIONAL": "Basic"},
            }
        }
    }
    plain = encode_error_vapi(ApiError(ErrorType.TIMED_OUT))
    assert list(plain["ERROR"]["com.vmware.vapi.std.errors.timed_out"]) == [
        "messages",
        "data",
        "error_type",
    ]


def test_data_in_vapi() -> None:
    """Data is a structure with its name."""
    body = encode_error_vapi(ApiError(ErrorType.UNVERIFIED_PEER, data=PEER))
    inner = body["ERROR"]["com.vmware.vapi.std.errors.unverified_peer"]
    assert inner["data"] == {
        "OPTIONAL": {
            "STRUCTURE": {
                "com.vmware.vcenter.vcha.certificate_info": {
                    "ssl_thumbprint": "AA:BB",
                    "ssl_certificate": {"OPTIONAL": "PEM"},
                }
            }
        }
    }


def test_errors_of_a_peer_are_read() -> None:
    """Unknown data is ignored; an unknown type is not hidden."""
    known = {"error_type": "NOT_FOUND", "messages": [], "data": {"anything": 1}}
    assert decode_error_rest(known) == ApiError(ErrorType.NOT_FOUND)
    assert decode_error_rest({"messages": []}).error_type is ErrorType.ERROR
    strange = {"STRUCTURE": {"com.example.data": {"x": 1}}}
    name = ErrorType.NOT_FOUND.structure
    body = {"ERROR": {name: {"messages": [], "data": {"OPTIONAL": strange}}}}
    assert decode_error_vapi(body) == ApiError(ErrorType.NOT_FOUND)
    with pytest.raises(ApiError, match="standard error"):
        decode_error_vapi({"ERROR": {"com.example.error": {"messages": []}}})


def test_an_error_says_what_it_is() -> None:
    """The log text has the type and all messages, the caller's view first."""
    cause = LocalizableMessage(id="i", default_message="Because.", args=())
    error = ApiError(ErrorType.ERROR, BUSY, cause)
    assert str(error) == "ERROR: spec.placement is missing. Because."


def test_equal_errors_are_equal() -> None:
    """Errors compare by content."""
    one = ApiError(ErrorType.ERROR, BUSY)
    assert one == ApiError(ErrorType.ERROR, BUSY)
    assert hash(one) == hash(ApiError(ErrorType.ERROR, BUSY))
    assert one != ApiError(ErrorType.ERROR)
    assert one != ApiError(ErrorType.ERROR, BUSY, data=PEER)
    assert one != "ERROR"


def test_fail_raises() -> None:
    """`fail` raises the error it is given."""
    with pytest.raises(ApiError) as caught:
        fail(ErrorType.UNVERIFIED_PEER, BUSY, data=PEER)
    assert caught.value == ApiError(ErrorType.UNVERIFIED_PEER, BUSY, data=PEER)
