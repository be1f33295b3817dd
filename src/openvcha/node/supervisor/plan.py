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
API = "api"

PartPlan = Callable[[Identity, Layout, Engines, Mapping[str, str]], tuple[PartSpec, ...]]


def all_parts(
    identity: Identity,
    layout: Layout,
    engines: Engines,
    environment: Mapping[str, str] = os.environ,
    *,
    cores: int | None = None,
) -> tuple[PartSpec, ...]:
    """Return the parts of a node; a witness has only etcd.

    ``cores`` is the number of the machine's cores; None stands for those that this process may use.
    """
    own = engine_parts(identity, layout, engines, environment)
    if not identity.holds_data:
        return own
    workers = identity.api.workers_on(cores or len(os.sched_getaffinity(0)))
    service = service_part(layout, environment, workers)
    return (*own, service, *api_parts(layout, environment, workers))


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


def service_part(
    layout: Layout, environment: Mapping[str, str] = os.environ, workers: int = 1
) -> PartSpec:
    """Return the part that holds the public address and runs tasks while this node leads."""
    return _own_part("service", layout, environment, *_workers(workers))


def api_parts(
    layout: Layout, environment: Mapping[str, str] = os.environ, workers: int = 1
) -> tuple[PartSpec, ...]:
    """Return the parts that serve the API while the service orders them to.

    Of several, the last one accepts the connections for the others; it is the first to be stopped.
    """
    if workers == 1:
        return (_own_part(API, layout, environment),)
    of = _workers(workers)
    numbers = range(1, workers + 1)
    each = (_own_part(API, layout, environment, *of, number=number) for number in numbers)
    return (*each, _own_part(API, layout, environment, *of))


def _workers(count: int) -> tuple[str, ...]:
    return () if count == 1 else ("--workers", str(count))


def _own_part(
    name: str, layout: Layout, environment: Mapping[str, str], *options: str, number: int = 0
) -> PartSpec:
    which = ("--worker", str(number)) if number else ()
    return PartSpec(
        f"{name}-{number}" if number else name,
        (sys.executable, "-m", "openvcha", "node", name, str(layout.root), *options, *which),
        program_environment(environment),
        group=name,
        stop_seconds=SERVICE_STOP_SECONDS,
        late=True,
        beats=True,
    )


def reaper_part(
    layout: Layout,
    supervisor: int,
    environment: Mapping[str, str] = os.environ,
    *,
    check_seconds: float = supervisor_watch.CHECK_SECONDS,
) -> PartSpec:
    """Return the part that ends the node if the supervisor dies or hangs; GO dismisses it.

    It waits as a small program, run by path, and is identified by the module that it becomes.
    """
    watch = str(Path(supervisor_watch.__file__).resolve())
    knows = (REAPER, str(layout.root), str(supervisor), str(check_seconds))
    return PartSpec(
        "reaper",
        (sys.executable, "-I", "-S", watch, *knows),
        engine_environment(environment, layout.root),
        stop_seconds=REAPER_STOP_SECONDS,
        gated=True,
        watches=True,
    )
