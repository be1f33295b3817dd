"""Asking a lab's etcd, on a SIMULATED store."""

from typing import Any

import pytest
from tests.support.lab import behind_the_api
from tests.support.lab.behind_the_api import until_all_answer

from openvcha.store.interface import Member

PLACES = [f"https://127.0.0.{number}:2379" for number in (1, 2, 3)]


class Busy:
    """A store of three members; each is asked ``late`` times in vain first."""

    def __init__(self, late: int) -> None:
        self.late = late

    async def members(self) -> list[Member]:
        return [
            Member(id=number, name=f"n{number}", peer_urls=(), client_urls=(place,))
            for number, place in enumerate(PLACES)
        ]

    async def healthy(self, endpoint: str, seconds: float) -> bool:
        del endpoint, seconds
        self.late -= 1
        return self.late < 0


@pytest.mark.looptime
async def test_a_member_that_answers_late_is_well() -> None:
    """Its machine is busy."""
    store: Any = Busy(7)
    await until_all_answer(store, 3)
    assert store.late < 0


@pytest.mark.looptime
@pytest.mark.parametrize(("late", "number"), [(1 << 30, 3), (0, 2)])
async def test_a_silent_member_or_one_too_many_is_told(late: int, number: int) -> None:
    """By name, at the deadline."""
    store: Any = Busy(late)
    with pytest.raises(AssertionError, match=rf"{behind_the_api.ANSWER_SECONDS:g} s.*'n2'"):
        await until_all_answer(store, number)
