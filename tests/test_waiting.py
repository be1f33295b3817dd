"""The tests' own waiting: it fails at its deadline, and shows why."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.support.waiting import until, until_async


def looks(*found: object) -> Iterator[object]:
    """Return each value in turn; raise it if it is an exception."""
    yield from found


def test_what_was_found_is_returned() -> None:
    """None, and an error that counts as nothing, are waited through."""
    found = looks(0, OSError("away"), "", "there")

    def look() -> object:
        one = next(found)
        if isinstance(one, Exception):
            raise one
        return one

    assert until(look, 60, absent=(OSError,), pause=0) == "there"


def test_an_error_of_another_kind_ends_it() -> None:
    """A broken test does not wait for its deadline."""

    def look() -> object:
        raise KeyError("a mistake")

    with pytest.raises(KeyError):
        until(look, 60, absent=(OSError,), pause=0)


@pytest.mark.parametrize(("last", "shown"), [((), "()"), (OSError("away"), "away")])
def test_a_failure_shows_what_was_seen_last(last: object, shown: str) -> None:
    """The last value, and what the test wants to be shown."""

    def look() -> object:
        if isinstance(last, Exception):
            raise last
        return last

    with pytest.raises(AssertionError, match=r"not within 0 s") as failed:
        until(look, 0, absent=(OSError,), seen=lambda: "the state", pause=0)
    assert shown in str(failed.value)
    assert "the state" in str(failed.value)


@pytest.mark.looptime
async def test_in_an_event_loop_others_run_meanwhile() -> None:
    """By its clock, which may be simulated."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(30, done.set)

    async def look() -> bool:
        return done.is_set()

    assert await until_async(look, 60)
    done.clear()
    with pytest.raises(AssertionError, match="not within 5 s"):
        await until_async(look, 5)


@pytest.mark.looptime
async def test_a_look_that_hangs_ends_at_the_deadline() -> None:
    """And a timeout of its own is an error, not a reason to wait."""
    with pytest.raises(AssertionError, match="no look has ended"):
        await until_async(asyncio.Event().wait, 5)

    async def late() -> bool:
        async with asyncio.timeout(1):
            await asyncio.Event().wait()
        return True

    with pytest.raises(TimeoutError):
        await until_async(late, 5)
