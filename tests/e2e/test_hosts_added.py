"""A first node whose cluster keeps an inventory of hosts: they are added, shown and removed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.answers.asking import HOST_SPEC
from tests.support.first_node import ADMINISTRATOR, SURE_SECONDS, First, vcha
from tests.support.waiting import until

pytestmark = [pytest.mark.engines, pytest.mark.soak]
HOSTS = "/openvcha/hosts"


@pytest.fixture
def first(tmp_path: Path) -> Iterator[First]:
    """Return a first node; end it after the test."""
    found = First(tmp_path / "node", offset=24)
    yield found
    found.end()


def test_hosts_of_a_new_cluster(first: First) -> None:
    """One that does not answer is shown as such, and keeps nothing else from being shown."""
    made = first.made("--set=node.infrastructure=hosts")
    password = json.loads(Path(made["passwords_file"]).read_text())[ADMINISTRATOR]
    first.start()
    until(lambda: first.active(password), SURE_SECONDS)
    assert first.call(password, HOSTS, None) == []
    added = first.call(password, HOSTS, {**HOST_SPEC, "address": "127.0.0.1", "port": 1})
    (shown,) = first.call(password, HOSTS, None)
    assert (shown["host"], shown["connection_state"]) == (added["host"], "NOT_RESPONDING")
    (listed,) = first.call(password, "/vcenter/host", None)
    assert (listed["name"], listed["connection_state"]) == ("h2", "NOT_RESPONDING")
    assert first.active(password)
    key = vcha("hosts", "key", str(first.directory))
    assert key.stdout.startswith("ssh-ed25519 "), key.stderr
    first.call(password, f"{HOSTS}?action=remove", {"host": added["host"]})
    assert first.call(password, HOSTS, None) == []
