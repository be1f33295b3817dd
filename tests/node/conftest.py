"""Nodes on addresses of this test process's own, run as `vcha node run` runs them."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.support.nodes import Lab

# Else pytest-asyncio's first look makes a loop that nobody closes, and that is a warning.
asyncio.set_event_loop(None)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.end()
