"""A secret shows itself only when asked to."""

import copy
import json
import pickle
import traceback

import msgspec
import pytest

from openvcha.api.secret import Secret
from openvcha.api.structures import ConnectionSpec

HIDDEN = Secret("hunter2")
SPEC = ConnectionSpec(hostname="h", password=HIDDEN)


def test_it_is_hidden() -> None:
    """No way of printing it, or a structure that contains it, shows it."""
    for text in (
        repr(HIDDEN),
        str(HIDDEN),
        f"{HIDDEN}",
        f"{HIDDEN:>20}",
        repr([HIDDEN]),
        repr(SPEC),
    ):
        assert "hunter2" not in text
        assert "***" in text
    assert "%s" % HIDDEN == "***"  # noqa: UP031 (the old way of formatting, too)


def test_it_is_revealed() -> None:
    """The text is available to its user."""
    assert HIDDEN.reveal() == "hunter2"


def test_it_is_not_written_by_accident() -> None:
    """No generic encoder accepts it, and it cannot be pickled or copied."""
    with pytest.raises(TypeError):
        json.dumps(HIDDEN)
    with pytest.raises(TypeError):
        msgspec.json.encode(SPEC)
    for away in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            away(HIDDEN)


def test_it_is_compared() -> None:
    """Secrets are equal when their texts are; a secret does not equal its text."""
    assert Secret("hunter2") == HIDDEN
    assert hash(Secret("hunter2")) == hash(HIDDEN)
    assert Secret("hunter3") != HIDDEN
    assert Secret("ä€\ud800") == Secret("ä€\ud800")
    assert HIDDEN != "hunter2"
    assert HIDDEN
    assert not Secret("")


def test_it_is_not_in_a_traceback() -> None:
    """A traceback that shows the values of variables does not show it."""
    with pytest.raises(ValueError, match=r"\*\*\*") as caught:
        explode(HIDDEN, SPEC)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join(shown.format())
    assert "spec = ConnectionSpec" in text
    assert "hunter2" not in text


def explode(secret: Secret, spec: ConnectionSpec) -> None:
    raise ValueError(secret, spec)
