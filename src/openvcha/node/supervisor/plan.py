"""The parts of a node, in the order of their start; they are stopped in reverse."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from openvcha.node.engines import Engines
from openvcha.node.etcd.member import etcd_argv
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.patroni.config import patroni_argv
from openvcha.node.process import supervisor_watch
from openvcha.node.process.managed_process import PartSpec
from openvcha.node.process.process_tree import REAPER
from openvcha.node.process.spawn import engine_environment, program_environment

ETCD_STOP_SECONDS = 10.0
PATRONI_STOP_SECONDS = 60.0  # for PostgreSQL's checkpoint, and for sending it to the standby
SERVICE_STOP_SECONDS = 10.0
REAPER_STOP_SECONDS = 10.0

PartPlan = Callable[[Identity, Layout, Engines, Mapping[str, str]], tuple[PartSpec, ...]]


def all_parts(
    identity: Identity,
    layout: Layout,
    engines: Engines,
    environment: Mapping[str, str] = os.environ,
) -> tuple[PartSpec, ...]:
    """Return the parts of a node; a witness has only etcd."""
    own = engine_parts(identity, layout, engines, environment)
    if not identity.holds_data:
        return own
    return (*own, service_part(layout, environment), api_part(layout, environment))


def engine_parts(
    identity: Identity,
    layout: Layout,
    engines: Engines,
    environment: Mapping[str, str] = os.environ,
) -> tuple[PartSpec, ...]:
    """Return the parts without the service and the API: etcd, and Patroni on a data node."""
    clean = engine_environment(environment, layout.root)
    etcd = PartSpec(
        "etcd",
        tuple(etcd_argv(engines.etcd.path, identity, layout)),
        clean,
        # etcd's warning for each request with a certificate through its JSON gateway.
        noise=(b"ignoring common name in gRPC-gateway proxy request",),
        stop_seconds=ETCD_STOP_SECONDS,
    )
    if not identity.holds_data:
        return (etcd,)
    patroni = PartSpec(
        "patroni",
        tuple(patroni_argv(layout)),
        clean,
        stop_seconds=PATRONI_STOP_SECONDS,
        gated=True,
    )
    return (etcd, patroni)


def service_part(layout: Layout, environment: Mapping[str, str] = os.environ) -> PartSpec:
    """Return the part that holds the public address and runs tasks while this node leads."""
    return _own_part("service", layout, environment)


def api_part(layout: Layout, environment: Mapping[str, str] = os.environ) -> PartSpec:
    """Return the part that serves the API while the service orders it to."""
    return _own_part("api", layout, environment)


def _own_part(name: str, layout: Layout, environment: Mapping[str, str]) -> PartSpec:
    return PartSpec(
        name,
        (sys.executable, "-m", "openvcha", "node", name, str(layout.root)),
        program_environment(environment),
        stop_seconds=SERVICE_STOP_SECONDS,
        late=True,
        beats=True,
    )


def reaper_part(
    layout: Layout,
    supervisor: int,
    environment: Mapping[str, str] = os.environ,
    *,
    look_seconds: float = supervisor_watch.LOOK_SECONDS,
) -> PartSpec:
    """Return the part that ends the node if the supervisor dies or hangs; GO dismisses it.

    It waits as a small program, run by path, and is identified by the module that it becomes.
    """
    watch = str(Path(supervisor_watch.__file__).resolve())
    knows = (REAPER, str(layout.root), str(supervisor), str(look_seconds))
    return PartSpec(
        "reaper",
        (sys.executable, "-I", "-S", watch, *knows),
        engine_environment(environment, layout.root),
        stop_seconds=REAPER_STOP_SECONDS,
        gated=True,
        watches=True,
    )
