"""Encoding of Python values for the protocols; a JSON encoder accepts the results."""

from functools import cache
from typing import Any

from openvcha.api.codec.encoders import Encode, encode_as, encode_time, encoder
from openvcha.api.codec.wire_formats import REDACTED, REST, VAPI
from openvcha.api.errors import ApiError
from openvcha.api.types import descriptor

__all__ = [
    "encode_error_legacy",
    "encode_error_rest",
    "encode_error_vapi",
    "encode_rest",
    "encode_time",
    "encode_vapi",
    "encode_without_secrets",
]


def encode_rest(tp: Any, value: Any) -> Any:
    """Encode a value of the Python type `tp` as plain JSON, with secrets; omit unset fields."""
    return _rest(tp)(value)


@cache
def _rest(tp: Any) -> Encode:
    return encoder(REST, descriptor(tp))


def encode_without_secrets(tp: Any, value: Any) -> Any:
    """Encode a value as `encode_rest` does, but omit secrets: for stored values."""
    return encode_as(REDACTED, tp, value)


def encode_vapi(tp: Any, value: Any) -> Any:
    """Encode a value of the Python type `tp` as vAPI's wrapped JSON, with secrets."""
    return encode_as(VAPI, tp, value)


def encode_error_rest(error: ApiError) -> dict[str, Any]:
    """Return the body of an error on /api."""
    body: dict[str, Any] = REST.encode_error(error)
    return body


def encode_error_legacy(error: ApiError) -> dict[str, Any]:
    """Return the body of an error on /rest."""
    return {"type": error.error_type.structure, "value": encode_error_rest(error)}


def encode_error_vapi(error: ApiError) -> dict[str, Any]:
    """Return the value of an error in vAPI JSON-RPC: {"ERROR": {name: {…}}}."""
    body: dict[str, Any] = VAPI.encode_error(error)
    return body
