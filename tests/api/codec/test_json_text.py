"""JSON texts are checked strictly before their values are decoded."""

import json
import time

import pytest

from openvcha.api.codec.decode import MAX_BYTES, MAX_DEPTH, parse_json
from openvcha.api.errors import ApiError, ErrorType


def refused(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the id, without prefix, and the arguments of the message for a refused text."""
    with pytest.raises(ApiError) as caught:
        parse_json(data)
    assert caught.value.error_type is ErrorType.INVALID_REQUEST
    (message,) = caught.value.messages
    return message.id.removeprefix("com.vmware.vcenter.vcha."), message.args


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_a_plain_text_is_read() -> None:
    """Values are unchanged."""
    text = '{"a": [1, -2.5, true, null, "ä€😀"], "b": {}}'
    assert parse_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize("data", [b"", b"{", b'{"a":}', b"[1,]", b"{'a': 1}", b"1 2", b"nul"])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    """A text that is not JSON is refused with the position of the error."""
    name, (reason, place) = refused(data)
    assert name == "decode.syntax"
    assert reason
    assert place.isdigit()


@pytest.mark.parametrize("data", [b"NaN", b"[Infinity]", b"-Infinity", b"9" * 5000])
def test_numbers_that_json_does_not_have_are_refused(data: bytes) -> None:
    """No NaN, no infinity, no integer that takes long to parse."""
    assert refused(data)[0] == "decode.number"


@pytest.mark.parametrize("data", [b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', "ä".encode("latin-1")])
def test_bad_utf8_is_refused(data: bytes) -> None:
    """Bytes that are not UTF-8 are refused, including encoded surrogates."""
    assert refused(data)[0] == "decode.encoding"


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (rb'{"a": "\ud800"}', "a"),
        (rb'{"a": [1, {"b": "x\udfff"}]}', "a[1].b"),
        (rb'{"a": {"\ud800": 1}}', "a"),
        (rb'"\ud800"', "The request"),
    ],
)
def test_lone_surrogates_are_refused(data: bytes, path: str) -> None:
    """A text that could not be encoded again is refused, with its path."""
    assert refused(data) == ("decode.text", (path,))


def test_escaped_pairs_are_fine() -> None:
    """A pair of surrogates is one character."""
    assert parse_json(rb'"\ud83d\ude00"') == "😀"


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b'{"a": 1, "a": 1}', "a"),
        (
            b'{"spec": {"placement": {"name": "x", "folder": "f", "name": "x"}}}',
            "spec.placement.name",
        ),
        (b'{"a": [{}, {"b": 1, "c": 2, "b": null}]}', "a[1].b"),
        (b'{"a": {"x": 1, "x": 2}, "b": 1, "a": 3}', "a"),
        (b'{"a": {"x": 1, "x": 2}, "a": 3}', "a"),
    ],
)
def test_repeated_keys_are_refused(data: bytes, path: str) -> None:
    """A duplicate key in an object is refused by its path, whatever its values are."""
    assert refused(data) == ("decode.duplicate", (path,))


def test_depth_is_limited() -> None:
    """64 levels are parsed, one more is not, nor are as many as fit."""
    assert parse_json(nested(MAX_DEPTH))
    assert refused(nested(MAX_DEPTH + 1)) == ("decode.depth", ("64",))
    assert refused(nested(MAX_BYTES // 2)) == ("decode.depth", ("64",))
    assert refused(b'{"a":' * 65 + b"1" + b"}" * 65) == ("decode.depth", ("64",))


def test_size_is_limited() -> None:
    """1 MiB is parsed; one byte more is refused unread."""
    text = b'"' + b"x" * (MAX_BYTES - 2) + b'"'
    assert len(parse_json(text)) == MAX_BYTES - 2
    assert refused(text + b" ") == ("decode.too.large", (str(MAX_BYTES),))
    assert refused(b"\xff" * (MAX_BYTES + 1))[0] == "decode.too.large"


def test_a_large_request_is_read_in_passing() -> None:
    """A long key over a long list is not copied for each element: that would take a minute."""
    key = "k" * (MAX_BYTES // 2)
    items = ",".join(["1"] * (MAX_BYTES // 8))
    text = f'{{"{key}": [{items}], "\\u00e4": 1}}'.encode()
    before = time.process_time()
    parse_json(text)
    assert time.process_time() - before < 5
