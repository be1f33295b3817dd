"""The wire formats: REST (plain JSON), with or without secrets, and vAPI JSON-RPC."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from openvcha.api.codec.decoders import decoder, items
from openvcha.api.codec.encoders import encode_as
from openvcha.api.codec.faults import invalid_value, wrong_type
from openvcha.api.codec.interface import WireFormat
from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.prepared import prepare
from openvcha.api.structures import BY_VAPI_NAME, CertificateInfo, LocalizableMessage
from openvcha.api.types import Opaque, StructType, Structure

WITH_CHALLENGE = frozenset({ErrorType.UNAUTHENTICATED, ErrorType.UNAUTHORIZED})
"""The errors whose structure has the field ``challenge`` in vAPI."""


class ErrorBody(Structure):
    """The fields of a standard error."""

    vapi: ClassVar[str] = "com.vmware.vapi.std.errors.error"

    messages: tuple[LocalizableMessage, ...]
    data: Opaque | None = None
    error_type: ErrorType | None = None
    challenge: str | None = None


def fields_of(value: Any, path: str) -> dict[str, Any]:
    """Return the fields of a JSON object. Raises ApiError INVALID_ARGUMENT for any other value."""
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    return value


@dataclass(frozen=True)
class Rest(WireFormat):
    """Plain JSON; unset fields are omitted, and null from clients counts as unset."""

    def wrap_structure(self, name: str, values: dict[str, Any]) -> Any:  # noqa: ARG002 (plain JSON has no names)
        """Return the set fields as an object: {field: value}."""
        return {key: value for key, value in values.items() if value is not None}

    def unwrap_structure(self, name: str, value: Any, path: str) -> dict[str, Any]:  # noqa: ARG002 (plain JSON has no names)
        """Return the fields of an object. Raises ApiError INVALID_ARGUMENT."""
        return fields_of(value, path)

    def wrap_optional(self, value: Any) -> Any:
        """Return the value itself; an unset field is omitted by its structure."""
        return value

    def unwrap_optional(self, value: Any, path: str) -> Any:  # noqa: ARG002 (nothing to unwrap)
        """Return the value itself; null is unset."""
        return value

    def wrap_secret(self, text: str) -> Any:
        """Return the text itself: the connection protects it."""
        return text

    def unwrap_secret(self, value: Any, path: str) -> Any:  # noqa: ARG002 (nothing to unwrap)
        """Return the text itself."""
        return value

    def wrap_map(self, entries: dict[Any, Any]) -> Any:
        """Return the entries as an object: {key: value}."""
        return entries

    def unwrap_map(self, value: Any, path: str) -> Iterable[tuple[Any, Any, str]]:
        """Return each key, its value and its path. Raises ApiError INVALID_ARGUMENT."""
        return [(key, item, f"{path}[{key}]") for key, item in fields_of(value, path).items()]

    def encode_error(self, error: ApiError) -> Any:
        """Return {error_type, messages}, with data and challenge if the error has them."""
        body = {"error_type": error.error_type.value, "messages": encode_messages(self, error)}
        if error.data is not None:
            body["data"] = encode_data(self, error)
        if error.challenge is not None:
            body["challenge"] = error.challenge
        return body

    def decode_error(self, value: Any, path: str) -> ApiError:
        """Return the error of such an object. Raises ApiError INVALID_ARGUMENT."""
        body: ErrorBody = decoder(self, StructType(ErrorBody))(value, path)
        error_type = body.error_type or ErrorType.ERROR
        data = None if body.data is None else self._decode_data(error_type, body.data.value, path)
        return ApiError(error_type, *body.messages, data=data, challenge=body.challenge)

    def _decode_data(self, error_type: ErrorType, value: Any, path: str) -> Structure | None:
        # Plain JSON does not name the structure; only one error has a known structure.
        if error_type is not ErrorType.UNVERIFIED_PEER:
            return None
        known: Structure = decoder(self, StructType(CertificateInfo))(value, f"{path}.data")
        return known


@dataclass(frozen=True)
class Redacted(Rest):
    """Plain JSON for storage: secrets are omitted."""

    def wrap_secret(self, text: str) -> Any:  # noqa: ARG002 (secrets are omitted)
        """Return None: the secret is omitted."""
        return None


@dataclass(frozen=True)
class Vapi(WireFormat):
    """vAPI JSON-RPC: structures by name, optionals, secrets and errors in wrappers."""

    def wrap_structure(self, name: str, values: dict[str, Any]) -> Any:
        """Return {"STRUCTURE": {name: {field: value}}}."""
        return {"STRUCTURE": {name: values}}

    def unwrap_structure(self, name: str, value: Any, path: str) -> dict[str, Any]:
        """Return the fields of the structure ``name``. Raises ApiError INVALID_ARGUMENT."""
        found, inner = named(wrapped("STRUCTURE", value, path), path)
        if found != name:
            raise invalid_value("decode.structure", path, name, found)
        return inner

    def wrap_optional(self, value: Any) -> Any:
        """Return {"OPTIONAL": value}; the value is None if unset."""
        return {"OPTIONAL": value}

    def unwrap_optional(self, value: Any, path: str) -> Any:
        """Return the wrapped value; null is unset too. Raises ApiError INVALID_ARGUMENT."""
        return None if value is None else wrapped("OPTIONAL", value, path)

    def wrap_secret(self, text: str) -> Any:
        """Return {"SECRET": text}."""
        return {"SECRET": text}

    def unwrap_secret(self, value: Any, path: str) -> Any:
        """Return the wrapped text. Raises ApiError INVALID_ARGUMENT."""
        return wrapped("SECRET", value, path)

    def wrap_map(self, entries: dict[Any, Any]) -> Any:
        """Return a list of structures ``map-entry`` with key and value."""
        return [
            self.wrap_structure("map-entry", {"key": key, "value": value})
            for key, value in entries.items()
        ]

    def unwrap_map(self, value: Any, path: str) -> Iterator[tuple[Any, Any, str]]:
        """Yield each key, its value and its path. Raises ApiError INVALID_ARGUMENT."""
        for index, item in enumerate(items(value, path)):
            place = f"{path}[{index}]"
            entry = self.unwrap_structure("map-entry", item, place)
            if entry.keys() != {"key", "value"}:
                raise invalid_value("decode.entry", place)
            yield entry["key"], entry["value"], place

    def encode_error(self, error: ApiError) -> Any:
        """Return {"ERROR": {name of the error's structure: {field: value}}}."""
        values = {
            "messages": encode_messages(self, error),
            "data": self.wrap_optional(encode_data(self, error)),
            "error_type": self.wrap_optional(error.error_type.value),
        }
        if error.error_type in WITH_CHALLENGE:
            values["challenge"] = self.wrap_optional(error.challenge)
        return {"ERROR": {error.error_type.structure: values}}

    def decode_error(self, value: Any, path: str) -> ApiError:
        """Return the error in such a wrapper. Raises ApiError INVALID_ARGUMENT."""
        name, inner = named(wrapped("ERROR", value, path), path)
        error_type = next((known for known in ErrorType if known.structure == name), None)
        if error_type is None:
            raise invalid_value("decode.structure", path, "a standard error", name)
        body: ErrorBody = decoder(self, StructType(ErrorBody))(
            {"STRUCTURE": {ErrorBody.vapi: inner}}, path
        )
        data = None if body.data is None else self._decode_data(body.data.value, f"{path}.data")
        return ApiError(error_type, *body.messages, data=data, challenge=body.challenge)

    def _decode_data(self, value: Any, path: str) -> Structure | None:
        name, _ = named(wrapped("STRUCTURE", value, path), path)
        cls = BY_VAPI_NAME.get(name)
        if cls is None:
            return None
        known: Structure = decoder(self, StructType(cls))(value, path)
        return known


def encode_messages(wire: WireFormat, error: ApiError) -> list[Any]:
    """Encode the messages of an error."""
    return [encode_as(wire, LocalizableMessage, message) for message in error.messages]


def encode_data(wire: WireFormat, error: ApiError) -> Any:
    """Encode the data of an error; None when it has none."""
    return None if error.data is None else encode_as(wire, type(error.data), error.data)


def wrapped(key: str, value: Any, path: str) -> Any:
    """Return the value in the wrapper {key: …}."""
    if not isinstance(value, dict) or value.keys() != {key}:
        raise invalid_value("decode.wrapper", path, key)
    return value[key]


def named(value: Any, path: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the fields in {name: {…}}."""
    if not isinstance(value, dict) or len(value) != 1:
        raise invalid_value("decode.name", path)
    ((name, inner),) = value.items()
    return name, fields_of(inner, path)


REST = Rest()
REDACTED = Redacted()
VAPI = Vapi()


prepare(__name__)
