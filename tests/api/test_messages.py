"""The catalogue has every text that a caller may read."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import openvcha
from openvcha.api.messages import CATALOGUE, PREFIX, message

SOURCE = Path(openvcha.__file__).parent

KNOWN = {
    "com.vmware.vapi.endpoint.method.authentication.required",
    "vapi.security.authentication.invalid",
    "vapi.security.authorization.invalid",
    "com.vmware.vapi.rest.httpNotFound",
    "vapi.method.input.invalid.interface",
    "vapi.data.structure.field.unexpected",
    "vapi.data.structure.field.missing",
    "vapi.data.structure.field.invalid",
}


def test_known_ids_are_there() -> None:
    """The ids of real systems are used unchanged."""
    assert set(CATALOGUE) >= KNOWN


def test_ids_and_texts_are_well_formed() -> None:
    """Ids are dotted words; ours have our prefix; texts take arguments by %s only (%% is one %)."""
    for name, text in CATALOGUE.items():
        assert re.fullmatch(r"[A-Za-z]+(\.[A-Za-z0-9_]+)+", name), name
        assert name.startswith((PREFIX, "vapi.", "com.vmware.vapi."))
        assert not re.search(r"%(?!s)", text.replace("%%", "")), name
        assert text == text.strip()
        assert text


def test_arguments_are_put_in() -> None:
    """The text is complete, and the arguments are included as strings."""
    found = message("decode.range", "spec.port", 1, 2)
    assert found.id == f"{PREFIX}decode.range"
    assert found.default_message == "spec.port must be an integer from 1 to 2."
    assert found.args == ("spec.port", "1", "2")
    assert message(f"{PREFIX}decode.range", "spec.port", 1, 2) == found


def test_an_argument_with_a_percent_sign_is_left_alone() -> None:
    """A caller's text is never interpreted as a format."""
    found = message("vapi.data.structure.field.missing", "%s%d%%")
    assert found.default_message == "%s%d%% is missing."


def test_mistakes_are_seen() -> None:
    """An unknown id, or a wrong number of arguments, is an error of ours."""
    with pytest.raises(KeyError):
        message("no.such.message")
    with pytest.raises(ValueError, match="arguments"):
        message("decode.range", "spec.port")
    with pytest.raises(ValueError, match="arguments"):
        message("decode.encoding", "x")


def test_every_message_that_is_used_exists() -> None:
    """Each literal id in the sources is in the catalogue."""
    used = {
        name
        for path in SOURCE.rglob("*.py")
        for name in re.findall(r"\bmessage\(\s*\"([^\"{]+)\"", path.read_text())
    }
    assert used
    assert {
        name for name in used if name not in CATALOGUE and PREFIX + name not in CATALOGUE
    } == set()


def test_every_message_is_used() -> None:
    """Each id occurs in the sources, in full or after the prefix that its module adds."""
    written = {
        name
        for path in SOURCE.rglob("*.py")
        if path.parent != SOURCE / "api" / "messages"
        for name in re.findall(r"\"([A-Za-z0-9_.]+)\"", path.read_text())
    }
    unused = {
        name for name in CATALOGUE if not written & set(_spellings(name.removeprefix(PREFIX)))
    }
    assert unused == set()


def _spellings(name: str) -> Iterator[str]:
    yield name
    yield name.removesuffix(".recommendation")
    for prefix in ("placement.", "address."):
        if name.startswith(prefix):
            yield name.removeprefix(prefix)
    if name in {"certificate.node.recommendation", "certificate.api.recommendation"}:
        yield "certificate.expires"
