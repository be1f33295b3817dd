"""What each of our programs imports: a large library costs time at each start, and memory."""

import subprocess
import sys

import pytest

DRAWING = {"rich", "pygments", "markdown_it"}
COMMANDS = {"typer", "pydantic", "openvcha.lab"}
CERTIFICATES = {"cryptography", "OpenSSL", "asyncssh"}
DATABASE = {"psycopg"}
CONTRACT = {"openvcha.api.operations", "openvcha.api.structures", "openvcha.api.messages"}
SERVING = {
    "argon2",
    "httpx2",
    "openvcha.operations",
    "openvcha.daemon",
    "patroni",
    "starlette",
    "uvicorn",
}

PROGRAMS: dict[str, tuple[str, set[str]]] = {
    "the supervisor of a node": (
        "openvcha.cli.direct, openvcha.cli.running",
        DRAWING
        | COMMANDS
        | CERTIFICATES
        | DATABASE
        | CONTRACT
        | SERVING
        | {"openvcha.api_server", "openvcha.cluster"},
    ),
    "what ends the parts": (
        "openvcha.node.process.reaper",
        DRAWING
        | COMMANDS
        | CERTIFICATES
        | DATABASE
        | CONTRACT
        | SERVING
        | {"h11", "openvcha.cluster", "openvcha.api_server", "openvcha.store.etcd.client"},
    ),
    "what starts PostgreSQL for Patroni": (
        "openvcha.node.patroni.launcher",
        {"asyncio", "msgspec", "ssl", "structlog", "openvcha.store", "openvcha.api"},
    ),
    "the public address": (
        "openvcha.node.address.forwarder, openvcha.node.address.thread",
        DRAWING | COMMANDS | CERTIFICATES | DATABASE | CONTRACT | SERVING,
    ),
    "the service": (
        "openvcha.daemon.service",
        DRAWING | COMMANDS | {"httpx2", "patroni", "starlette", "uvicorn"},
    ),
    "the API": (
        "openvcha.daemon.api_processes.process",
        DRAWING | COMMANDS | {"httpx2", "patroni", "openvcha.daemon.service"},
    ),
    "what accepts the connections for several of these": (
        "openvcha.daemon.api_processes.distributor",
        DRAWING
        | COMMANDS
        | CERTIFICATES
        | DATABASE
        | CONTRACT
        | (SERVING - {"openvcha.daemon"})
        | {"h11", "openvcha.cluster", "openvcha.store.etcd.client"},
    ),
    "any command": (
        "openvcha.cli.main",
        DRAWING | CERTIFICATES | DATABASE | CONTRACT | SERVING | {"pydantic", "h11"},
    ),
    "the state of a node": (
        "openvcha.cli.main, openvcha.cli.node.commands",
        DRAWING | CERTIFICATES | DATABASE | CONTRACT | SERVING | {"pydantic", "h11"},
    ),
    "a look at this machine, or the list of hosts": (
        "openvcha.cli.main, openvcha.cli.commands.host, openvcha.cli.commands.hosts",
        CERTIFICATES | DATABASE | (SERVING - {"httpx2"}) | {"pydantic"},
    ),
    "an operation, also of another server": (
        "openvcha.cli.main, openvcha.cli.commands.failover",
        CERTIFICATES
        | DATABASE
        | (SERVING - {"httpx2"})
        | {"pydantic", "openvcha.infrastructure", "openvcha.lab.access", "openvcha.lab.deploy"},
    ),
    "the commands of a lab": (
        "openvcha.cli.main, openvcha.cli.lab.commands",
        CERTIFICATES | DATABASE | (SERVING - {"httpx2"}) | {"pydantic"},
    ),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_loads_what_it_uses(program: str) -> None:
    """Each in its own Python, where nothing else has been imported."""
    modules, never = PROGRAMS[program]
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    loaded = set(done.stdout.split())
    assert loaded >= set(modules.split(", "))
    assert not never & loaded
