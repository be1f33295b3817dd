"""Patroni reads each second: a valid seal is checked again only when it or the keys change."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from openvcha.api.secret import Secret
from openvcha.node.patroni.patches.seals import Nodes, Sealing
from openvcha.store import keys
from openvcha.store.sealing.seal import KeyVersion, Seals

KEY, ANOTHER = (Secret("a key of the data nodes"),), (Secret("the key after a renewal"),)
CONFIG_PLACE = KeyVersion(keys.PATRONI_CONFIG, 5, 1, lease=False)
MEMBER_PLACE = KeyVersion(keys.patroni_member("a"), 0, 0, lease=False)


class Known:
    """The current keys."""

    def __init__(self) -> None:
        self.keys: Sequence[Secret] = KEY


def answers(**changes: Any) -> Nodes:
    """Return etcd's answer: a sealed configuration and member; ``changes`` are the member's."""
    seals = Seals(lambda: KEY)
    config = seals.seal(CONFIG_PLACE, b'{"ttl": 20}').decode()
    member = seals.seal_fields(MEMBER_PLACE, {"api_url": "https://a:8008/patroni", **changes})
    return {
        "config": {
            "value": config,
            "create_revision": "5",
            "mod_revision": "5",
            "version": "1",
        },
        "members/a": {"value": json.dumps(member), "mod_revision": "7", "lease": "3"},
    }


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of keys whose seals were checked."""
    found: list[str] = []
    original = Seals.unseal_fields

    def counted(seals: Seals, place: KeyVersion, fields: dict[str, Any] | None) -> dict[str, Any]:
        found.append(place.key)
        return original(seals, place, fields)

    monkeypatch.setattr(Seals, "unseal_fields", counted)
    return found


def test_what_has_not_changed_is_checked_once(checks: list[str]) -> None:
    """And Patroni sees the same value each time."""
    sealing = Sealing(Seals(lambda: KEY))
    looks = [sealing.checked(answers()) for _ in range(3)]
    assert looks[0] == looks[1] == looks[2]
    assert json.loads(looks[2]["config"]["value"]) == {"ttl": 20}
    assert checks == [keys.PATRONI_CONFIG, keys.patroni_member("a")]


def test_what_changes_is_checked_again(checks: list[str]) -> None:
    """A forged one is skipped, even where a good one has just passed; then a good one counts."""
    sealing = Sealing(Seals(lambda: KEY))
    good, forged = answers(), answers()
    forged["members/a"]["value"] = forged["members/a"]["value"].replace("https://a", "https://x")
    assert "members/a" in sealing.checked(good)
    assert "members/a" not in sealing.checked(forged)
    assert "members/a" not in sealing.checked(forged)
    assert sealing.checked(answers(state="running"))["members/a"] != good["members/a"]
    assert checks == [keys.PATRONI_CONFIG, *[keys.patroni_member("a")] * 4]


@pytest.mark.parametrize("field", ["create_revision", "version", "lease"])
def test_the_same_value_in_another_place_is_forged(field: str) -> None:
    """An attacker who restores an old configuration has its value, but not its revision."""
    sealing = Sealing(Seals(lambda: KEY))
    moved = answers()
    moved["config"][field] = "9"
    assert "config" in sealing.checked(answers())
    assert "config" not in sealing.checked(moved)


def test_new_keys_count_at_once() -> None:
    """What earlier keys sealed is invalid then, though it has not changed."""
    known = Known()
    sealing = Sealing(Seals(lambda: known.keys))
    assert sealing.checked(answers()).keys() == {"config", "members/a"}
    known.keys = ANOTHER
    assert sealing.checked(answers()).keys() == set()


def test_what_is_gone_is_forgotten() -> None:
    """Members come and go for years."""
    sealing = Sealing(Seals(lambda: KEY))
    sealing.checked(answers())
    sealing.checked({"config": answers()["config"]})
    assert list(sealing._passed) == ["config"]
