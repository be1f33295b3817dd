"""Hosts on this machine."""

from collections.abc import Iterator

import pytest
from tests.support.hosts.hosts import Hosts, hosts_on, why_impossible


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Yield two hosts that are on; this process is in their management network."""
    if reason := why_impossible():
        pytest.skip(reason)
    with hosts_on(tmp_path_factory.mktemp("hosts"), 2) as made, made.entered():
        yield made
