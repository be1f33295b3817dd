"""A walk through the states of a real cluster, checking in each what it refuses and why.

The order keeps each state little more than one loss away from the previous one.
"""

from collections.abc import Callable, Iterable
from typing import Any

from tests.support.every_state import ALLOWED, MODES, OPERATIONS, expected
from tests.support.lab.running_lab import RunningLab, message_ids

from openvcha.cluster.preconditions import SET_MODE

CLUSTER = "/vcenter/vcha/cluster"
SET = f"{CLUSTER}/mode?vmw-task=true"
DEPLOY = f"{CLUSTER}?action=deploy&vmw-task=true"
UNDEPLOY = f"{CLUSTER}?action=undeploy&vmw-task=true"
SAME = "mode.same"


def deploy_spec(running: RunningLab, deployment: str = "AUTO") -> dict[str, Any]:
    """Return the same two nodes that the lab itself would request."""
    known = running.admin.call("POST", f"{CLUSTER}/active?action=get", {"partial": True})
    own = known["ha"]["ipv4"]["address"]
    known_addresses = (running.lab.state().ha_address(number) for number in (1, 2, 3))
    # The active has its own address where a redeploy created it.
    others = [address for address in known_addresses if address != own][:2]
    active, passive, witness = (
        {"ha_ip": {"ip_family": "IPV4", "ipv4": {"address": address, "prefix": 24}}}
        for address in (own, *others)
    )
    if deployment == "AUTO":
        for name, node in (("new-2", passive), ("new-3", witness)):
            node["placement"] = {"name": name, "folder": running.folder}
    return {"deployment": deployment, "active": active, "passive": passive, "witness": witness}


def asks(running: RunningLab) -> dict[str, tuple[str, str, Any]]:
    """Return the method, path and body of each operation in the table, and of each mode."""
    placed = {"placement": {"name": "never", "folder": running.folder}}
    return {
        "deploy": ("POST", DEPLOY, deploy_spec(running)),
        "undeploy": ("POST", UNDEPLOY, {}),
        "failover": ("POST", f"{CLUSTER}?action=failover&vmw-task=true", {"planned": False}),
        "passive": ("POST", f"{CLUSTER}/passive?action=redeploy&vmw-task=true", placed),
        "witness": ("POST", f"{CLUSTER}/witness?action=redeploy&vmw-task=true", placed),
        **{name: ("PUT", SET, {"mode": each.value}) for name, each in MODES.items()},
    }


def disabled(running: RunningLab) -> set[str]:
    """Return which operations the cluster itself reports as disabled."""
    found = running.admin.call("GET", "/vcenter/vcha/operations")
    return set(found["disabled"]) & {*OPERATIONS.values(), SET_MODE}


def assert_rules(running: RunningLab, state: str, mode: str = "") -> None:
    """Check the cluster against the table's row; it may still be on its way into the state.

    Operations that must be refused are really called; allowed ones are not.
    """
    row = expected(state, mode)
    reasons = dict(zip([*OPERATIONS, *MODES], row, strict=True))
    changes = [reasons[name] for name in MODES]
    refused = {OPERATIONS[name] for name in OPERATIONS if reasons[name] != ALLOWED}
    refused |= set() if ALLOWED in changes else {SET_MODE}
    running.until(lambda: disabled(running) == refused)
    calls = asks(running)
    found = {
        name: _refusal(running, *calls[name])
        for name, reason in reasons.items()
        if reason != ALLOWED
    }
    wanted = {name: reason for name, reason in reasons.items() if reason != ALLOWED}
    assert found == wanted, f"{state} {mode}: {found}, not {wanted}"
    assert disabled(running) == refused, f"{state} {mode} passed while it was looked at"


def _refusal(running: RunningLab, method: str, path: str, body: Any) -> str:
    error = running.admin.call(method, path, body, 400)
    (reason,) = message_ids(error)
    kind = "ALREADY_IN_DESIRED_STATE" if reason == SAME else "NOT_ALLOWED_IN_CURRENT_STATE"
    assert error["error_type"] == kind, error
    return reason


# --- from one state to the next

Go = Callable[[RunningLab], None]


def lose(role: str) -> Go:
    """Cut a node's power, and wait until the cluster has noticed."""

    def go(running: RunningLab) -> None:
        running.vcha("lab", "kill", role)
        running.until(lambda: not running.healthy())

    return go


def back(running: RunningLab) -> None:
    """Power on the nodes that are off."""
    running.vcha("lab", "up")
    running.until(running.healthy)


def mode(wanted: str) -> Go:
    """Return a function that sets the mode."""
    return lambda running: _succeed(running, "PUT", SET, {"mode": wanted})


def undeploy(running: RunningLab) -> None:
    """Undeploy, and delete the VMs."""
    _succeed(running, "POST", UNDEPLOY, {"force_delete": True})


def prepare(running: RunningLab) -> None:
    """Prepare a MANUAL deployment."""
    _succeed(running, "POST", DEPLOY, deploy_spec(running, "MANUAL"))


def _succeed(running: RunningLab, method: str, path: str, body: object) -> None:
    info = running.admin.finished(running.admin.call(method, path, body, 202))
    assert info["status"] == "SUCCEEDED", info


#: Steps and where they lead: the state, and the mode where there is one. Starts HEALTHY, ENABLED.
WALK: tuple[tuple[Iterable[Go], str, str], ...] = (
    ((), "healthy", "enabled"),
    ((lose("passive"),), "passive lost", "enabled"),
    ((mode("DISABLED"),), "passive lost", "disabled"),
    ((back,), "healthy", "disabled"),
    ((lose("witness"),), "witness lost", "disabled"),
    ((back, mode("ENABLED"), lose("witness")), "witness lost", "enabled"),
    ((back, mode("MAINTENANCE")), "healthy", "maintenance"),
    ((lose("witness"),), "witness lost", "maintenance"),
    ((back, lose("passive")), "passive lost", "maintenance"),
    ((undeploy,), "single", ""),
    ((prepare,), "prepared", ""),
)

#: The states that the walk does not reach, and why.
ELSEWHERE = {
    "one joined": "test_manual has a node that joins",
    "half deployed": "a deployment has to fail, and its undoing too",
    "not in sync": "it passes by itself; in DISABLED it is what healthy is",
    "a stranger leads": "a node that was removed ends its database itself",
    "a stranger leads in sync": "as above",
    "nobody leads": "nobody serves the API then",
}
