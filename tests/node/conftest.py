"""Nodes on this test process's own addresses, run as `vcha node run` runs them."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.support.nodes import Lab

# Otherwise pytest-asyncio's first lookup creates a loop that is never closed, which warns.
asyncio.set_event_loop(None)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Yield nodes with real engines on this machine."""
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.end()
