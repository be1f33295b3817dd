"""JSON from others: within bounds it is read, beyond them it is unreadable."""

import json
from typing import Any

import msgspec
import pytest

from openvcha.api.secret import Secret
from openvcha.store import base_backup_reports, bounded_json, keys, node_facts
from openvcha.store.errors import RecordForged, RecordInvalid
from openvcha.store.interface import KeyValue
from openvcha.store.memory import MemoryStore
from openvcha.store.patroni import state as patroni_state
from openvcha.store.records import decode
from openvcha.store.sealing.seal import Seals
from openvcha.store.sealing.sealed_store import SealedStore

SEALS = Seals(lambda: [Secret("a key of the data nodes")])
DEEP = b'{"x":' + b"[" * 20000 + b"]" * 20000 + b"}"
CUT = b'{"x":' + b"[" * 20000
LONG = b'{"x":"' + b"x" * bounded_json.MAX_BYTES + b'"}'
BOMBS = pytest.mark.parametrize("bomb", [DEEP, CUT, LONG], ids=["deep", "cut", "long"])


def nested(levels: int) -> bytes:
    return b'{"x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_the_last_level_is_read_and_the_next_is_not() -> None:
    assert bounded_json.json_object(nested(bounded_json.MAX_DEPTH)) is not None
    assert bounded_json.json_object(nested(bounded_json.MAX_DEPTH + 1)) is None
    assert bounded_json.decode(nested(bounded_json.MAX_DEPTH), dict[str, Any])
    with pytest.raises(msgspec.DecodeError):
        bounded_json.decode(nested(bounded_json.MAX_DEPTH + 1), dict[str, Any])


def test_brackets_in_texts_and_beside_each_other_are_no_levels() -> None:
    """Also after escaped quotes, and where a text contains a whole document."""
    fields = {"a": "[" * 200, "b": '"[\\' * 200, "c": [[]] * 200, '[{\\"' * 50: "\\"}
    assert bounded_json.json_object(json.dumps(fields)) == fields
    assert bounded_json.decode(json.dumps(fields).encode(), dict[str, Any]) == fields


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b"\xff", b'{"x":1', b'{"x":"\\', b'"' + b'\\"' * 400000, b"1" * 5000, "\ud800"],
    ids=range(8),
)
def test_what_is_no_object_is_none(value: bytes | str) -> None:
    """And soon: an unterminated text is scanned once."""
    assert bounded_json.json_object(value) is None
    assert isinstance(value, str) or bounded_json.json_object(value + b"[" * 100) is None


@BOMBS
def test_every_reader_of_records_finds_it_unreadable(bomb: bytes) -> None:
    for read in (node_facts.decode, base_backup_reports.decode):
        with pytest.raises(msgspec.DecodeError):
            read(bomb)
    for state in (patroni_state.read_sync(bomb), patroni_state.read_member(bomb)):
        assert isinstance(state, patroni_state.Unreadable)
    with pytest.raises(RecordInvalid):
        decode(KeyValue("k", bomb, 1, 1, 1), dict[str, Any])


@BOMBS
async def test_under_a_sealed_key_it_is_forged(bomb: bytes) -> None:
    """A reader of several records skips it."""
    raw = MemoryStore()
    store = SealedStore(raw, SEALS)
    member = keys.patroni_member("x")
    for key in (keys.PATRONI_CONFIG, keys.CLUSTER, member):
        await raw.put(key, bomb)
        with pytest.raises(RecordForged):
            await store.get(key)
    assert await store.prefix(keys.PATRONI) == []
    assert (await store.snapshot(keys.ROOT)).items == ()
    await store.verify_all()
    await store.reseal(keys.ROOT)
    assert set(store.refused()) == {keys.PATRONI_CONFIG, keys.CLUSTER, member}
