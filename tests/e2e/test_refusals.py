"""Every error of redeploy, provoked for real; none of them changes anything."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.lab import behind_the_api as cluster
from tests.support.lab.running_lab import RunningLab, message_ids

from openvcha.lab.state import ADMINISTRATOR
from openvcha.system.thumbprints import thumbprint_sha1, thumbprint_sha256

pytestmark = pytest.mark.engines
SHARED_LAB = "repairs"
CHECK = "/vcenter/vcha/cluster/passive?action=check"
REDEPLOY = "/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true"


def certificate(running: RunningLab) -> bytes:
    return (running.layout(running.name_of("ACTIVE")).root / "tls" / "api.crt").read_bytes()


def spec(running: RunningLab, **where: Any) -> dict[str, Any]:
    location = {
        "hostname": running.lab.state().public_address,
        "port": 8443,
        "ssl_thumbprint": thumbprint_sha256(certificate(running)),
        "username": ADMINISTRATOR,
        "password": running.password(),
    }
    return {
        "vc_spec": {"active_location": {**location, **where}},
        "placement": {"name": "never", "folder": running.folder},
    }


def refused(running: RunningLab, body: Any, status: int) -> dict[str, Any]:
    """Check that check and redeploy refuse alike, and that nothing has changed."""
    before = {vm.id for vm in running.vms()}
    checked = {key: value for key, value in body.items() if key in {"vc_spec", "placement"}}
    if checked == body:
        running.admin.call("POST", CHECK, checked, status)
    error: dict[str, Any] = running.admin.call("POST", REDEPLOY, body, status)
    assert {vm.id for vm in running.vms()} == before
    assert running.password() not in str(error)
    return error


def test_a_healthy_passive_is_not_replaced(running: RunningLab) -> None:
    """This protects against a person who mistook the node."""
    running.repair("healthy-again")
    body = {"placement": {"name": "never", "folder": running.folder}}
    error = running.admin.redeploy(body, 400)
    assert error["error_type"] == "NOT_ALLOWED_IN_CURRENT_STATE"
    assert message_ids(error) == ["passive.healthy"]
    found = running.admin.call("POST", CHECK, body)
    assert [m["id"].rsplit("vcha.", 1)[1] for m in found["errors"]] == ["passive.healthy"]


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "nobody@vsphere.local"}])
def test_refused_credentials(degraded: RunningLab, wrong: dict[str, str]) -> None:
    """Wrong password, unknown user."""
    error = refused(degraded, spec(degraded, **wrong), 400)
    assert error["error_type"] == "INVALID_ARGUMENT"
    assert message_ids(error) == ["invalid.credentials"]


@pytest.mark.parametrize("length", [20, 32])
def test_wrong_thumbprint_shows_what_was_met(degraded: RunningLab, length: int) -> None:
    """SHA-1 and SHA-256; the answer has the presented certificate, for comparison."""
    error = refused(degraded, spec(degraded, ssl_thumbprint=":".join(["AA"] * length)), 400)
    assert error["error_type"] == "UNVERIFIED_PEER"
    met = certificate(degraded)
    assert error["data"]["ssl_thumbprint"] == thumbprint_sha256(met)
    assert error["data"]["ssl_certificate"] == met.decode()


def test_right_sha1_thumbprint_passes_the_check(degraded: RunningLab) -> None:
    """The same request with the right thumbprint has no finding: the refusals are no accident."""
    found = degraded.admin.call(
        "POST", CHECK, spec(degraded, ssl_thumbprint=thumbprint_sha1(certificate(degraded)))
    )
    assert found == {"errors": [], "warnings": []}


def test_certificate_and_thumbprint_together(degraded: RunningLab) -> None:
    """Setting both is refused."""
    error = refused(degraded, spec(degraded, ssl_certificate=certificate(degraded).decode()), 400)
    assert error["error_type"] == "INVALID_ARGUMENT"
    assert message_ids(error) == ["peer.certificate.ambiguous"]


def test_not_a_vcenter_at_that_address(degraded: RunningLab) -> None:
    """Patroni speaks TLS too, but it does not manage the active node."""
    active = degraded.layout(degraded.name_of("ACTIVE"))
    address = degraded.role("ACTIVE")["ha_ip"]["ipv4"]["address"]
    thumbprint = thumbprint_sha256(active.certificate.read_bytes())
    body = spec(degraded, hostname=address, port=8008, ssl_thumbprint=thumbprint)
    error = refused(degraded, body, 500)
    assert error["error_type"] == "ERROR"
    assert message_ids(error) == ["peer.unreachable"]


def test_connection_refused(degraded: RunningLab) -> None:
    """Nothing listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = refused(degraded, spec(degraded, hostname="127.0.0.1", port=port), 500)
    assert error["error_type"] == "ERROR"
    assert message_ids(error) == ["peer.unreachable"]


@contextmanager
def silent_peer() -> Iterator[int]:
    """Return a peer that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    kept.append(listener.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


@pytest.mark.soak
def test_time_out(degraded: RunningLab) -> None:
    """A peer that never answers costs the deadline and no more."""
    with silent_peer() as port:
        body = spec(degraded, hostname="127.0.0.1", port=port)
        error = degraded.admin.call("POST", REDEPLOY, body, 500)
    assert error["error_type"] == "ERROR"
    assert message_ids(error) == ["peer.timeout"]


def test_who_calls_matters(degraded: RunningLab) -> None:
    """401 without a session, 403 without the privilege."""
    body = {"placement": {"name": "never", "folder": degraded.folder}}
    stranger = degraded.admin.http.post(
        REDEPLOY, json=body, headers={"vmware-api-session-id": "0" * 64}
    )
    assert stranger.status_code == 401
    assert stranger.json()["error_type"] == "UNAUTHENTICATED"
    assert "WWW-Authenticate" in stranger.headers
    error = degraded.reader.redeploy(body, 403)
    assert error["error_type"] == "UNAUTHORIZED"


@pytest.mark.parametrize(
    ("body", "error_type", "named"),
    [
        ({"placement": {"name": "n", "folder": "f", "colour": 1}}, "UNEXPECTED_INPUT", "colour"),
        ({}, "INVALID_ARGUMENT", "placement"),
        ({"placement": {"name": "n"}}, "INVALID_ARGUMENT", "folder"),
        ({"placement": {"name": 1, "folder": "f"}}, "INVALID_ARGUMENT", "name"),
    ],
)
def test_bad_input_names_the_field(
    degraded: RunningLab, body: dict[str, Any], error_type: str, named: str
) -> None:
    """One error that names the field."""
    error = refused(degraded, body, 400)
    assert error["error_type"] == error_type
    assert named in str(error["messages"])


def test_data_on_another_disk(degraded: RunningLab, tmp_path: Path) -> None:
    """A tablespace outside the active's directory would not be copied: the check reports it."""
    pgdata = degraded.layout(degraded.name_of("ACTIVE")).pgdata
    link = pgdata / "pg_tblspc" / "99999"
    body = {"placement": {"name": "never", "folder": degraded.folder}}
    link.symlink_to(tmp_path)
    try:
        error = degraded.admin.call("POST", CHECK, body, 400)
    finally:
        link.unlink()
    assert error["error_type"] == "INVALID_ELEMENT_CONFIGURATION"
    assert message_ids(error) == ["active.elsewhere"]
    assert str(tmp_path) in error["messages"][0]["default_message"]
    assert degraded.admin.call("POST", CHECK, body) == {"errors": [], "warnings": []}


def test_all_findings_at_once(degraded: RunningLab) -> None:
    """check lists every problem; redeploy fails with the same list, and nothing changes."""
    placement = {
        "name": degraded.name_of("ACTIVE"),
        "folder": "group-v99",
        "host": "host-99",
        "resource_pool": "resgroup-99",
        "ha_network": "network-12",
        "storage": {"datastore": "datastore-99"},
    }
    found = degraded.admin.call("POST", CHECK, {"placement": placement})
    ids = {m["id"].rsplit("vcha.", 1)[1] for m in found["errors"]}
    assert {"placement.name.taken", "placement.unknown", "placement.network.type.missing"} <= ids
    assert len(found["errors"]) >= 6
    task = degraded.admin.redeploy({"placement": placement})
    info = degraded.admin.finished(task)
    assert info["status"] == "FAILED"
    assert message_ids(info["error"])[0] == "check.refused"
    assert [m["id"] for m in info["error"]["messages"][1:]] == [m["id"] for m in found["errors"]]


async def test_a_second_operation_is_busy_and_a_canceled_one_leaves_nothing(
    degraded: RunningLab,
) -> None:
    """RESOURCE_BUSY names the first; after canceling that one, another can be started."""
    before = {vm.id for vm in degraded.vms()}
    task = degraded.admin.redeploy({"placement": {"name": "canceled", "folder": degraded.folder}})
    error = degraded.admin.redeploy({"placement": {"name": "n", "folder": "group-v3"}}, 500)
    assert error["error_type"] == "RESOURCE_BUSY"
    assert task in str(error["messages"])
    degraded.until(lambda: "canceled" in {vm.name for vm in degraded.vms()})
    degraded.admin.call("POST", f"/cis/tasks/{task}?action=cancel", status=204)
    info = degraded.admin.finished(task)
    assert info["status"] == "FAILED"
    assert info["error"]["error_type"] == "CANCELED"
    assert {vm.id for vm in degraded.vms()} == before
    voters = await cluster.members(degraded)
    assert len(voters) == 2
    await cluster.until_all_members_answer(degraded, 2)
    assert degraded.admin.cluster()["health_state"] == "DEGRADED"
    task = degraded.admin.redeploy({"placement": {"name": "after", "folder": degraded.folder}})
    assert degraded.admin.finished(task)["status"] == "SUCCEEDED"
    degraded.until_healthy()
