"""A real lab: brought up, inspected, broken and repaired by its commands."""

import asyncio
import json
import os
import re
import signal
import ssl
import subprocess
from pathlib import Path

import psycopg
import pytest
from tests.support.lab.labs import KILLED_AT, NAME, SECONDS, Labs

from openvcha.api.secret import Secret
from openvcha.lab.access import data_nodes, lab_inventory
from openvcha.lab.first_node import NAME as FIRST
from openvcha.lab.state import ADMINISTRATOR, READER, Lab
from openvcha.node.http import ask
from openvcha.node.identity import ApiSettings, Timers, load_identity
from openvcha.node.layout import Layout
from openvcha.node.patroni.config import retry_seconds
from openvcha.node.process.status import PartState, load_status
from openvcha.node.security.tls import NodeTls
from openvcha.system.network.host_port import url
from openvcha.system.thumbprints import thumbprint_sha1, thumbprint_sha256

pytestmark = pytest.mark.engines
OTHER = "other"


def _status(labs: Labs, code: int = 0) -> dict[str, object]:
    found: dict[str, object] = json.loads(labs.run("lab", "status", "--json", code=code))
    return found


def _roles(labs: Labs, code: int = 0) -> dict[str, str]:
    nodes = _status(labs, code)["nodes"]
    assert isinstance(nodes, list)
    return {node["role"]: node["name"] for node in nodes}


def test_an_up_that_was_killed_is_finished_by_the_next(labs: Labs) -> None:
    """The deployment went on by itself; it is followed, not started again."""
    assert KILLED_AT in labs.killed
    assert "HEALTHY" not in labs.killed
    assert "Creating the lab" not in labs.again
    assert "Deploying" not in labs.again
    assert f"Lab {NAME} is HEALTHY" in labs.again


def test_up_shows_all_that_one_needs(labs: Labs) -> None:
    """Addresses, users, the password files, both thumbprints, psql, and what to try next."""
    out = labs.again
    state = labs.lab.state()
    served = ssl.get_server_certificate((state.public_address, 8443)).encode()
    for text in (
        state.api,
        ADMINISTRATOR,
        READER,
        str(labs.lab.passwords_file),
        str(labs.lab.ca),
        thumbprint_sha1(served),
        thumbprint_sha256(served),
        f"vcha demo --name {NAME}",
        f"vcha lab status --name {NAME}",
        f"vcha lab destroy passive --name {NAME}",
    ):
        assert text in out
    for user in (ADMINISTRATOR, READER, "app"):
        assert labs.lab.password(user).reveal() not in out


def test_a_new_labs_timers_are_those_of_all_its_nodes(labs: Labs) -> None:
    """The first `up` set them; the deployment gives them to the other nodes."""
    nodes = list(labs.lab.infrastructure.glob("datastores/*/vcha-*"))
    wished = Timers(leader_ttl=21, stuck_standby=35, stopped_store=6, replication_lag=9)
    assert [load_identity(node).timers for node in nodes] == [wished] * 3


def test_patroni_goes_by_the_labs_leader_ttl(labs: Labs) -> None:
    """As it runs; `retry_timeout` follows from the ttl."""
    inventory = asyncio.run(lab_inventory(labs.lab))
    vm, own = data_nodes(inventory)[0]
    place = url(own.ha_address, own.ports.patroni)
    body = asyncio.run(ask(place, "/config", NodeTls(Layout(Path(vm.directory)))(), SECONDS))
    live = json.loads(body or b"{}")
    wished = own.timers.leader_ttl
    assert (live["ttl"], live["retry_timeout"]) == (wished, retry_seconds(wished)) == (21, 10)


def test_the_psql_line_works_as_it_is_shown(labs: Labs) -> None:
    """It has no password: that is in a file which libpq finds."""
    (line,) = re.findall(r"psql '(host=.+)'", labs.again)
    with psycopg.connect(line) as connection:
        row = connection.execute("select current_user, current_database()").fetchone()
    assert row == ("app", "app")


def test_the_environment_is_for_a_shell(labs: Labs) -> None:
    """With it, the README's curl and psql need nothing else."""
    lines = labs.run("lab", "env")
    call = "$API/api/vcenter/vcha/cluster/mode"
    shell = f'{lines}\ncurl -sS --cacert "$CA" -u "$VCHA_USER:$PASSWORD" "{call}"'
    shown = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout) == {"mode": "ENABLED"}
    assert "export PGPASSFILE=" in lines


def test_status_shows_each_node(labs: Labs) -> None:
    """Role, state, power, host, datastore, address, VM."""
    out = labs.run("lab", "status")
    assert f"Lab {NAME} is HEALTHY, mode ENABLED" in out
    for role, number in (("active", 1), ("passive", 2), ("witness", 3)):
        address = labs.lab.state().ha_address(number).replace(".", r"\.")
        assert re.search(
            rf"vcha-{number} +{role} +UP +on +host-\w\.local +datastore-\w +{address} +vm-\d+", out
        )
    assert _roles(labs) == {"ACTIVE": "vcha-1", "PASSIVE": "vcha-2", "WITNESS": "vcha-3"}


def test_logs_of_a_node_are_one_stream(labs: Labs) -> None:
    """By role or name; one part, and only the last lines."""
    lines = labs.run("lab", "logs", "active", "--lines", "200").splitlines()
    assert {line.split()[1] for line in lines} >= {"etcd", "patroni", "service", "api"}
    only = labs.run("lab", "logs", "vcha-3", "--part", "etcd", "-n", "3").splitlines()
    assert [line.split()[1] for line in only] == ["etcd"] * 3
    assert "it has: console, etcd, reaper, supervisor" in labs.run(
        "lab", "logs", "witness", "--part", "patroni", code=2
    )


def test_users_are_added_changed_and_removed(labs: Labs, tmp_path: Path) -> None:
    """And each change takes effect with the next call."""
    secret = tmp_path / "secret"
    secret.write_text("first-password\n")
    as_bob = ("--user", "bob", "--password-file", str(secret))
    labs.run("user", "add", "bob", "--password-file", str(secret))
    assert "bob" in labs.run("user", "list")
    labs.run("call", "operations.get", *as_bob)
    assert "UNAUTHORIZED" in labs.run("call", "cluster.get", *as_bob, code=1)
    labs.run("user", "role", "bob", "Administrator")
    labs.run("call", "cluster.get", *as_bob)
    labs.run("user", "passwd", "bob", stdin="second-password\n")
    assert "UNAUTHENTICATED" in labs.run("call", "operations.get", *as_bob, code=1)
    assert "ALREADY_EXISTS" in labs.run("user", "add", "bob", stdin="x" * 9, code=1)
    directory = next(labs.lab.infrastructure.glob("datastores/*/vcha-1"))
    labs.run("user", "remove", "bob", "--node", str(directory))
    records = [json.loads(line) for line in labs.run("audit", "--json").splitlines()]
    local = [record for record in records if record["protocol"] == "command"]
    wished = [("add", "OK"), ("role", "OK"), ("passwd", "OK"), ("add", "ALREADY_EXISTS")]
    wished.append(("remove", "OK"))
    assert [(r["operation"], r["result"]) for r in local] == [
        (f"user.{what}", result) for what, result in wished
    ]
    assert "second-password" not in json.dumps(local)
    assert "NOT_FOUND" in labs.run("user", "remove", "bob", code=1)


def test_the_labs_own_password_can_be_changed(labs: Labs) -> None:
    """The lab learns it, and goes on; for one that it has not learned the error says what to do."""
    assert labs.lab.update_password(ADMINISTRATOR, Secret("not-the-password"))
    try:
        out = labs.run("lab", "status", code=1)
    finally:
        # The remedy first: all other tests of this lab need the password.
        labs.run("user", "passwd", ADMINISTRATOR, stdin="another-password\n")
    assert "the API refuses the password of" in out
    assert f"`vcha user passwd {ADMINISTRATOR} --name {NAME}` sets a new one" in out
    assert re.search(r"vcha-2 +passive +- +on", out)
    assert labs.lab.password(ADMINISTRATOR).reveal() == "another-password"
    labs.run("lab", "status")


def test_any_server_can_be_called(labs: Labs, tmp_path: Path) -> None:
    """Verified by its authority or by its thumbprint, and by nothing less."""
    secret = tmp_path / "secret"
    secret.write_text(labs.lab.password(READER).reveal())
    state = labs.lab.state()
    there = ("--server", state.api, "--user", READER, "--password-file", str(secret))
    served = ssl.get_server_certificate((state.public_address, 8443)).encode()
    good = thumbprint_sha256(served)
    mode = ("call", "cluster.mode.get", *there)
    assert json.loads(labs.run(*mode, "--ca", str(labs.lab.ca))) == {"mode": "ENABLED"}
    assert json.loads(labs.run(*mode, "--thumbprint", good.lower())) == {"mode": "ENABLED"}
    assert "is not trusted" in labs.run(*mode, code=1)
    wrong = ("00" if good[:2] != "00" else "11") + good[2:]
    assert good in labs.run(*mode, "--thumbprint", wrong, code=1)


@pytest.mark.soak
def test_dead_nodes_are_told_and_started_again(labs: Labs) -> None:
    """DEGRADED with the reason and what to do, then HEALTHY by the next up.

    Also a node whose supervisor alone has crashed, so that its other processes still run.
    """
    assert "vcha-2 (passive) was killed" in labs.run("lab", "kill", "passive")
    labs.until(lambda: labs.state == "DEGRADED")
    out = labs.run("lab", "status", code=1)
    assert "The passive node vcha-2" in out
    assert "redeploy it" in out
    assert "already off" in labs.run("lab", "kill", "passive")
    supervisor = _crash_supervisor(labs, "vcha-3")
    up = labs.run("lab", "up")
    assert "Starting vcha-2, vcha-3" in up or "Starting vcha-3, vcha-2" in up
    assert f"Lab {NAME} is HEALTHY" in up
    assert _supervisor(labs, "vcha-3") != supervisor


@pytest.mark.soak
def test_two_ups_of_another_lab_beside_this_one(labs: Labs) -> None:
    """Side by side with its own addresses; the second up waits and finds it done.

    One node is enough for that, and for the workers that an option asks for: they are parts of it,
    beside what accepts for them. That a deployment gives each node the settings of the first is
    shown by this lab's timers.
    """
    up = ("lab", "up", "--active-only", "--api-workers=2")
    both = [labs.start(*up, name=OTHER) for _ in range(2)]
    outs = [process.communicate(timeout=SECONDS)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert sorted("Creating the lab" in out for out in outs) == [False, True]
    assert any("Waiting for another vcha that is using this lab" in out for out in outs)
    assert labs.lab.state().api != Lab(labs.base / OTHER).state().api
    ((vm, identity),) = data_nodes(asyncio.run(lab_inventory(Lab(labs.base / OTHER))))
    assert identity.api == ApiSettings(workers=2)
    status = load_status(Path(vm.directory))
    assert status is not None
    running = {part.name for part in status.parts if part.state is PartState.RUNNING}
    assert running >= {"service", "api", "api-1", "api-2"}
    labs.run("lab", "reset", "--yes", name=OTHER)
    assert not (labs.base / OTHER).exists()
    assert _status(labs)["state"] == "HEALTHY"


def test_the_demo_loses_no_row(labs: Labs) -> None:
    """The whole main task, explained; the passive is a new one afterwards."""
    before = {vm["vm"] for vm in json.loads(labs.run("call", "VM.list"))}
    out = labs.run("demo", "--data", "1")
    for text in (
        "Destroying the passive",
        "The cluster is DEGRADED, because:",
        'curl --cacert "$CA"',
        "passive?action=redeploy&vmw-task=true",
        "Every acknowledged row is there.",
    ):
        assert text in out
    (rows,) = re.findall(r"(\d+) rows were acknowledged", out)
    assert int(rows) >= 100
    after = {vm["vm"] for vm in json.loads(labs.run("call", "VM.list"))}
    assert len(before - after) == len(after - before) == 1
    assert "cluster.passive.redeploy  SUCCEEDED" in labs.run("task", "list")


def test_what_is_stopped_in_order_comes_back_as_it_was(labs: Labs) -> None:
    """No node takes over while the lab goes down; status shows what it can, with its own code."""
    before = _roles(labs)
    out = labs.run("lab", "down")
    stopped = re.findall(r"Stopping \S+ \((\w+)\)", out)
    assert stopped == ["passive", "active", "witness"]
    assert "already down" in labs.run("lab", "down")
    assert f"Lab {NAME} is DOWN" in labs.run("lab", "status", code=3)
    assert all(vm.power_state == "POWERED_OFF" for vm in asyncio.run(lab_inventory(labs.lab)).vms)
    assert f"Lab {NAME} is HEALTHY" in labs.run("lab", "up")
    assert _roles(labs) == before


def test_a_dead_active_is_told_without_its_api(labs: Labs) -> None:
    """No node serves for a moment: the command shows what it can; then the other node is active."""
    active, passive = (_roles(labs)[role] for role in ("ACTIVE", "PASSIVE"))
    assert f"{active} (active) was killed" in labs.run("lab", "kill", "active")
    known = json.loads(labs.run("lab", "status", "--json", code=1))
    assert known["state"] in {"UNKNOWN", "DEGRADED"}
    assert f"Lab {NAME} is HEALTHY" in labs.run("lab", "up")
    labs.until(lambda: _roles(labs) == {"ACTIVE": passive, "PASSIVE": active, "WITNESS": "vcha-3"})


def test_the_first_node_is_not_made_a_second_time(labs: Labs) -> None:
    """It is the passive now. Once destroyed it is replaced by a redeploy, not by an up."""
    assert f"{FIRST} (passive) was deleted" in labs.run("lab", "destroy", "passive")
    labs.until(lambda: labs.state == "DEGRADED")
    out = labs.run("lab", "up", code=1)
    assert f"vcha passive redeploy --name {NAME}" in out
    assert "Creating the first node" not in out
    assert FIRST not in {vm["name"] for vm in json.loads(labs.run("call", "VM.list"))}


def test_a_lost_passive_is_redeployed_by_hand(labs: Labs) -> None:
    """Checked, redeployed with a given name, followed to the end."""
    _lose_passive(labs)
    assert "nothing prevents" in labs.run("passive", "check")
    assert "spec.placement.folder" in labs.run("passive", "check", "--folder", "x", code=1)
    out = labs.run("passive", "redeploy", "--placement-name", "anew", "--host", "host-13")
    assert "SUCCEEDED" in out
    assert _roles(labs)["PASSIVE"] == "anew"
    shown = json.loads(labs.run("task", "get"))
    assert shown["status"] == "SUCCEEDED"
    assert "NOT_ALLOWED_IN_CURRENT_STATE" in labs.run("passive", "redeploy", code=1)


def _lose_passive(labs: Labs) -> None:
    """Destroy the passive, unless the last test has, and wait until the cluster is DEGRADED."""
    if labs.state != "DEGRADED":
        labs.run("lab", "destroy", "passive")
        labs.until(lambda: labs.state == "DEGRADED")


def _supervisor(labs: Labs, name: str) -> int:
    directory = next(labs.lab.infrastructure.glob(f"datastores/*/{name}"))
    return int(Layout(directory).supervisor_pid.read_text())


def _crash_supervisor(labs: Labs, name: str) -> int:
    pid = _supervisor(labs, name)
    os.kill(pid, signal.SIGKILL)
    return pid
