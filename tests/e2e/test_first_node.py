"""From somebody's PostgreSQL to a cluster of three, without a lab: adopted, served, joined."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.first_node import ADMINISTRATOR, SURE_SECONDS, First, vcha
from tests.support.old_postgres import PASSWORD, ROWS, old_postgres
from tests.support.waiting import until

from openvcha.client.errors import RequestRefused

pytestmark = [pytest.mark.engines, pytest.mark.soak]

CLUSTER = "/vcenter/vcha/cluster"
LOGIN = ("admin", PASSWORD.reveal(), "postgres")


@pytest.fixture
def first(tmp_path: Path) -> Iterator[First]:
    """Return a first node that has adopted a PostgreSQL; end all nodes after the test."""
    found = First(tmp_path / "node", offset=20)
    yield found
    found.end()


def ip(address: str) -> dict[str, Any]:
    return {"ip_family": "IPV4", "ipv4": {"address": address, "prefix": 24}}


def rows(first: First) -> int:
    with first.connect(*LOGIN) as connection:
        row = connection.execute("select count(*) from kept").fetchone()
    assert row
    return int(row[0])


def test_adopted_data_become_a_clusters(first: First, tmp_path: Path) -> None:
    """Two nodes join by hand, the passive has the rows, and takes over with them."""
    old = old_postgres(tmp_path / "old")
    made = first.made(f"--adopt={old.data}")
    password = json.loads(Path(made["passwords_file"]).read_text())[ADMINISTRATOR]
    file = tmp_path / "password"
    file.write_text(password)
    first.start()
    until(lambda: first.active(password), SURE_SECONDS)

    def cluster() -> dict[str, Any]:
        try:
            return first.call(password, f"{CLUSTER}?action=get", {"partial": True}) or {}
        except RequestRefused as error:
            return {"refused": str(error)}

    spec = {
        "deployment": "MANUAL",
        "active": {"ha_ip": ip(first.ha_address(1))},
        "passive": {"ha_ip": ip(first.ha_address(2))},
        "witness": {"ha_ip": ip(first.ha_address(3))},
    }
    first.call(password, f"{CLUSTER}?action=deploy&vmw-task=true", spec)
    until(lambda: cluster().get("config_state") == "PREPARED", SURE_SECONDS, seen=cluster)

    target = ("--server", first.server, "--ca", str(first.ca))
    login = ("--user", ADMINISTRATOR, "--password-file", str(file))
    for number, role in ((2, "passive"), (3, "witness")):
        token = vcha("node", "token", role, *target, *login)
        assert token.returncode == 0, token.stderr
        (tmp_path / "token").write_text(token.stdout)
        given = ["--join", first.server, "--ca", str(first.ca), "--role", role]
        given += ["--ha-address", first.ha_address(number), "--token-file", str(tmp_path / "token")]
        created = vcha("node", "create", str(tmp_path / role), *given)
        assert created.returncode == 0, created.stderr
        first.start(tmp_path / role)
    healthy = {"config_state": "CONFIGURED", "health_state": "HEALTHY"}
    until(lambda: healthy.items() <= cluster().items(), SURE_SECONDS, seen=cluster)
    assert rows(first) == ROWS

    first.call(password, f"{CLUSTER}?action=failover&vmw-task=true", {"planned": True})
    until(lambda: _leads(first, password), SURE_SECONDS, seen=cluster)
    until(lambda: first.reaches(*LOGIN), SURE_SECONDS)
    assert rows(first) == ROWS
    until(lambda: healthy.items() <= cluster().items(), SURE_SECONDS, seen=cluster)


def _leads(first: First, password: str) -> bool:
    """Return whether the former passive is the active."""
    found = first.active(password)
    return bool(found and found["ha"]["ipv4"]["address"] == first.ha_address(2))
