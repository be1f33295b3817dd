"""Each command of `vcha` on a terminal, with escapes in every text that others may have written.

``DRIVEN`` is the table: a new command fails until it has an entry with its arguments there.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import typer
from tests.support.attackers.hostile_terminal import HOSTILE, Api, Terminal, lab_status, terminal
from tests.support.node_files import identity

from openvcha.api.operations import OPERATIONS
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.users import User
from openvcha.cli import host_trust
from openvcha.cli.arguments import RestCall
from openvcha.cli.commands import call, host, user
from openvcha.cli.lab import commands as lab_commands
from openvcha.cli.lab import demo, logs, show, summary
from openvcha.cli.main import app
from openvcha.cli.node import commands as node_commands
from openvcha.cli.node import init_steps, programs, recovery, store
from openvcha.cli.operation_help import short_name
from openvcha.cli.output import errors
from openvcha.cli.target import Target
from openvcha.client import trust
from openvcha.client.errors import RequestRefused, ServerUnreachable
from openvcha.client.narrator import Narrator
from openvcha.daemon import store_maintenance
from openvcha.daemon.recovery import promotion_check
from openvcha.daemon.unreadable_records import UnreadableRecord
from openvcha.infrastructure.hosts.address import HostAddress
from openvcha.infrastructure.hosts.commands import Outcome
from openvcha.infrastructure.hosts.ssh import SshHost
from openvcha.lab import folders, power, up
from openvcha.lab.demo import DemoResult
from openvcha.lab.state import Lab, LabState
from openvcha.node import join_client
from openvcha.node.doctor import DoctorFinding, DoctorVerdict
from openvcha.node.first_node.checks import Account, Examination
from openvcha.node.first_node.findings import Finding
from openvcha.node.identity import IDENTITY, Identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import KeptCluster
from openvcha.node.recovery.survey import Place, PlaceReply, Quorum, Survey
from openvcha.store.space import MemberSpace, SpaceReport

WORD = HOSTILE.replace(" ", "").replace("/", "|").replace("\0", "")
"""The same as one word of a command line, which may be the name of a file too."""
CREATE = "node create {empty} --role witness --token-file {file}"
OWN = "what it prints is its own"

DRIVEN: Mapping[str, tuple[str, ...]] = {
    "lab up": ("lab up",),
    "lab status": ("lab status", "lab status --json", f"lab status --name {WORD}"),
    "lab kill": ("lab kill active",),
    "lab destroy": ("lab destroy passive", f"lab destroy {WORD}"),
    "lab directory": ("lab directory passive",),
    "lab down": ("lab down",),
    "lab reset": ("lab reset --yes",),
    "lab list": ("lab list", "lab list --json"),
    "lab env": (f"lab env --name {WORD}",),
    "lab logs": ("lab logs node", "lab logs node --raw", f"lab logs node --part {WORD}"),
    "demo": ("demo", "demo --no-keep"),
    "failover": ("failover", "failover --forced --no-follow"),
    "passive redeploy": ("passive redeploy", f"passive redeploy --placement-name {WORD}"),
    "passive check": ("passive check",),
    "witness redeploy": ("witness redeploy",),
    "witness check": ("witness check",),
    "mode show": ("mode show",),
    "mode set": ("mode set MAINTENANCE",),
    "undeploy": ("undeploy --yes",),
    "task list": ("task list", "task list --json"),
    "task get": ("task get the-id", "task get", f"task get {WORD}"),
    "task follow": ("task follow the-id", "task follow"),
    "task cancel": ("task cancel", f"task cancel {WORD}"),
    "events": ("events", "events --json", "events --follow"),
    "audit": ("audit", "audit --json"),
    "user add": (f"user add {WORD} --password-file {{file}}",),
    "user remove": (f"user remove {WORD}",),
    "user list": ("user list", "user list --json"),
    "user passwd": (f"user passwd {WORD} --password-file {{file}}",),
    "user role": (f"user role {WORD} ReadOnly",),
    "openapi": (OWN,),
    "init": (
        "init --directory {place} --dry-run",
        "init --directory {place} --dry-run --json",
        "init --directory {place} --json",
        f"init --directory {{place}} --administrator {WORD}",
        f"init --set {WORD}",
        f"init --set {WORD}=1 --directory {WORD}",
        "init --config {settings}",
    ),
    "config check": ("config check --config {settings}",),
    "config show": (
        "config show --config {settings}",
        "config show --config {settings} --json",
        f"config show --config {WORD}",
    ),
    "config default": (OWN,),
    "doctor": ("doctor", "doctor --json"),
    "host prepare": (
        "host prepare",
        "host prepare --json",
        "host prepare --install --wheelhouse {empty}",
        f"host prepare {WORD}",
    ),
    "hosts list": ("hosts list", "hosts list --json"),
    "hosts add": (
        f"hosts add {WORD} h --datastore /d --network e=s",
        f"hosts add h {WORD} --datastore /d --network e=s",
    ),
    "hosts set": (f"hosts set {WORD} --maintenance", f"hosts set h --where {WORD}"),
    "hosts key": ("hosts key {empty}",),
    "hosts remove": (f"hosts remove {WORD}",),
    "systemd install": (
        "systemd install --root {empty} --program /usr/bin/vcha",
        f"systemd install --program /{WORD}",
    ),
    "systemd address": (
        "systemd address 192.0.2.10 eth0 --root {empty}",
        f"systemd address {WORD} {WORD} --root {{empty}}",
    ),
    "node run": ("node run {empty}",),
    "node bootstrap": ("node bootstrap {empty}",),
    "node status": ("node status {node}", "node status {node} --json", "node status {empty}"),
    "node service": ("node service {node}",),
    "node api": ("node api {node}",),
    "node address": ("node address {empty}", f"node address /{WORD}"),
    "node make-standalone": (
        "node make-standalone {node} --yes",
        "node make-standalone {node} --cancel",
    ),
    "node promote": ("node promote {node} --yes",),
    "node token": ("node token passive", "node token passive --json"),
    "node tokens": ("node tokens", "node tokens --json"),
    "node create": (
        f"{CREATE} --join https://127.0.0.1:1 --ha-address 127.0.0.1 --name {WORD}",
        f"{CREATE} --join https://127.0.0.1:1 --ha-address {WORD}",
        f"{CREATE} --join {WORD} --ha-address 127.0.0.1",
    ),
    "node store list": ("node store list {node}",),
    "node store set-aside": (f"node store set-aside {{node}} {WORD}",),
    "node store accept": ("node store accept {node} --yes",),
    "node store defragment": ("node store defragment {node}",),
    **{
        f"call {short_name(operation)}": (f"call {short_name(operation)}",)
        for operation in OPERATIONS
    },
}
AMISS = (LookupError, TypeError, AttributeError, AssertionError, NotImplementedError)
"""By these a command ends that meets something which this test has forgotten."""
ASKS_A_SERVER = (
    *("failover", "passive", "witness", "mode", "undeploy", "task", "events", "audit", "call"),
    *("node token", "node tokens", "hosts list", "hosts add", "hosts set", "hosts remove"),
)


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the commands of a group; groups print only their own help."""
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name))


def test_every_command_is_driven() -> None:
    """Add a new command to the table, with what it shows of others' text."""
    assert sorted(commands(typer.main.get_command(app))) == sorted(DRIVEN)


def giving(value: Any) -> Callable[..., Any]:
    """Return a coroutine function that always returns this."""

    async def given(*_: Any, **__: Any) -> Any:
        return value

    return given


async def narrated(_: Lab, out: Narrator, *__: Any, **___: Any) -> DemoResult:
    """Stand in for any long work on a lab."""
    with out.step(HOSTILE):
        out.say(HOSTILE)
        out.code(HOSTILE)
    return DemoResult(steps=[(HOSTILE, 1.0)])


def hostile_identity() -> Identity:
    every = ("cluster_id", "cluster_name", "vm", "ha_address")
    initial = {HOSTILE: HOSTILE}
    return identity(HOSTILE, etcd_initial_cluster=initial, **dict.fromkeys(every, HOSTILE))


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one lab exist, under any name, with hostile text everywhere."""
    lab = Lab(tmp_path / WORD)
    lab.make(LabState(name=HOSTILE, octet=83, cluster_id=HOSTILE))
    vm: Any = SimpleNamespace(name=HOSTILE, id=HOSTILE, directory=HOSTILE)

    row = show.LabRow(name=HOSTILE, running=1, nodes=3, api=HOSTILE, directory=HOSTILE)
    reached = giving(dict.fromkeys(("host", "dbname", "user"), HOSTILE))
    (tmp_path / "etcd.jsonl").write_bytes(msgspec.json.encode({"event": HOSTILE, HOSTILE: "x"}))
    monkeypatch.setattr(folders, "find", lambda *_: lab)
    monkeypatch.setattr(folders, "labs", lambda *_: [lab])
    for module in (lab_commands, demo):
        monkeypatch.setattr(module, "new_lab_as_owner", lambda *_: lab)
    monkeypatch.setattr(lab_commands, "lab_as_owner", lambda *_: lab)
    monkeypatch.setattr(lab_commands, "lab_status", giving(lab_status()))
    monkeypatch.setattr(lab_commands, "database", reached)
    monkeypatch.setattr(summary, "status", giving(lab_status()))
    monkeypatch.setattr(summary, "database", reached)
    monkeypatch.setattr(trust, "fetch_certificate", giving(b"certificate"))
    monkeypatch.setattr(show, "row", giving(row))
    monkeypatch.setattr(logs, "_folder", giving(tmp_path))
    monkeypatch.setattr(up, "up", narrated)
    monkeypatch.setattr(demo, "up", narrated)
    monkeypatch.setattr(demo, "run_demo", narrated)
    monkeypatch.setattr(power, "find", giving(vm))
    monkeypatch.setattr(power, "kill", giving((vm, True)))
    monkeypatch.setattr(power, "destroy", giving(vm))
    monkeypatch.setattr(power, "down", narrated)
    monkeypatch.setattr(power, "reset", narrated)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every answer of a server hostile text, and so the store's users."""

    @asynccontextmanager
    async def opened(_: Target) -> AsyncIterator[Api]:
        yield Api()

    answers = [ServerUnreachable(HOSTILE)]

    async def ask(*_: object) -> dict[str, bytes]:
        """Answer a new node: first as if unreachable, then with a refusal."""
        raise answers.pop() if answers else refusal()

    one = User(name=HOSTILE, role=UserRole.READ_ONLY, password_hash="x", generation="x")
    monkeypatch.setattr(Target, "api", opened)
    monkeypatch.setattr(call, "build", lambda *_: RestCall("GET", "/x"))
    monkeypatch.setattr(join_client, "_ask", ask)
    monkeypatch.setattr(join_client, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(user, "_with_users", lambda *_: [one])
    monkeypatch.setattr(user, "_save_in_lab", lambda *_: f", of {HOSTILE}")


def refusal() -> RequestRefused:
    messages = [{"default_message": HOSTILE}]
    data = {"ssl_thumbprint": HOSTILE}
    return RequestRefused(400, {"error_type": HOSTILE, "messages": messages, "data": data})


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a node's directory with hostile text everywhere."""
    made = Layout(tmp_path / f"node{WORD}")
    for path in (made.run, made.etcd_data / "member", made.pgdata):
        path.mkdir(parents=True)
    (made.pgdata / "PG_VERSION").write_text("15")
    (made.root / IDENTITY).write_bytes(msgspec.json.encode(hostile_identity()))
    own_view = {
        "role": "ACTIVE",
        "contact": "ISOLATED",
        "since": HOSTILE,
        "waits_for": [HOSTILE],
    }
    status = {
        "member": HOSTILE,
        "kind": HOSTILE,
        "pid": 1,
        "started": 0,
        "parts": [{"name": HOSTILE, "state": "RUNNING", "last_exit": HOSTILE}],
        "notes": {HOSTILE: HOSTILE},
        "view": own_view,
    }
    made.status.write_bytes(msgspec.json.encode(status))
    kept = KeptCluster(
        own=HOSTILE,
        store_id=HOSTILE,
        revision=1,
        seen="2026-11-24T12:00:00+00:00",
        listed=True,
        members=(),
        leader=HOSTILE,
        last_leader=HOSTILE,
        last_led=HOSTILE,
    )
    said = (PlaceReply(Place(HOSTILE, HOSTILE), (HOSTILE,)), PlaceReply(Place(HOSTILE, HOSTILE)))
    quorum = Quorum(frozenset({HOSTILE, "another"}), HOSTILE, 1)
    everybody = Survey(hostile_identity(), kept, {HOSTILE: HOSTILE}, quorum, said)

    async def fails(*_: Any) -> None:
        raise OSError(2, HOSTILE, HOSTILE)

    monkeypatch.setattr(recovery, "ask_all", giving(everybody))
    facts = SimpleNamespace(seen=None, patroni=None, others=(), creation=None)
    monkeypatch.setattr(recovery, "_observed", giving(facts))
    monkeypatch.setattr(recovery, "is_running", lambda _: True)
    judged = SimpleNamespace(refused=HOSTILE)
    for name in ("check_promotion", "gather_evidence", "assess_promotion"):
        monkeypatch.setattr(promotion_check, name, lambda *_, **__: judged)
    monkeypatch.setattr(programs, "_begin", lambda directory: directory)
    monkeypatch.setattr("openvcha.daemon.service.serve", fails)
    monkeypatch.setattr("openvcha.daemon.api_processes.process.serve_api", fails)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    monkeypatch.setattr(
        node_commands, "examine", lambda: [DoctorFinding(HOSTILE, DoctorVerdict.OK, HOSTILE)]
    )
    return made.root


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill the store with keys and members whose names are hostile text."""
    made: Any = SimpleNamespace(differing=giving([HOSTILE]))
    member = MemberSpace(1, HOSTILE, HOSTILE, 1, 1)

    async def reached(_: Path, work: Any) -> Any:
        return await work(made)

    monkeypatch.setattr(
        store_maintenance, "find_unreadable", giving([UnreadableRecord(HOSTILE, HOSTILE)])
    )
    monkeypatch.setattr(store_maintenance, "accept", giving(None))
    monkeypatch.setattr(store_maintenance, "set_aside", giving(HOSTILE))
    room = SpaceReport(members=(member,), silent=(HOSTILE,))
    monkeypatch.setattr(store_maintenance, "free_space", giving(room))
    monkeypatch.setattr(store, "_with_store", reached)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a machine that is looked at answer with hostile text only."""
    one_line = HOSTILE.replace("\n", " ").replace("\t", " ")
    programs_there = [f"{name}\t/{one_line} 99.1" for name in ("python", "postgresql", "etcd")]
    lines = [
        *programs_there,
        "uid\t0",
        f"os\tdebian {one_line}",
        "listener\t00000000:1538",
        f'socket\tLISTEN 0 1 0.0.0.0:5432 0.0.0.0:* users:(("{one_line}",pid=1,fd=1))',
        f"unit\tetcd {WORD} active",
        f"openvcha\t{one_line}",
        "end\t1",
    ]
    said = Outcome(0, "\n".join(lines), HOSTILE)
    monkeypatch.setattr(host, "run_here", giving(said))
    trusted = SshHost(HostAddress("root", "h"), ("a key",))
    monkeypatch.setattr(host_trust, "trusted_host", giving(trusted))


@pytest.fixture
def first_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the examination and the making of a first node say hostile text."""
    findings = (Finding.ok(HOSTILE, HOSTILE), Finding.note(HOSTILE, HOSTILE))
    found, made = Examination(findings), tmp_path / WORD
    result = init_steps.Result(made, HOSTILE, made, made, HOSTILE, (HOSTILE,), findings)
    monkeypatch.setattr(init_steps, "is_interactive", lambda: False)
    monkeypatch.setattr(init_steps, "account_for", lambda _: Account(os.geteuid(), HOSTILE))
    monkeypatch.setattr(init_steps, "examined", lambda *_, **__: found)
    monkeypatch.setattr(init_steps, "make", lambda *_, **__: result)


@pytest.fixture
def words(tmp_path: Path, node: Path) -> Mapping[str, Path]:
    """Create what the command lines of the table name."""
    file, empty = tmp_path / "file", tmp_path / f"empty{WORD}"
    file.write_text("a-secret-of-somebody\n")
    empty.mkdir()
    settings = tmp_path / f"settings{WORD}"
    quoted = msgspec.json.encode(HOSTILE).decode()
    settings.write_text(f'[{quoted}]\n[node]\nname = {quoted}\n{quoted} = 1\ndirectory = "/a"\n')
    return {
        "{file}": file,
        "{empty}": empty,
        "{node}": node,
        "{settings}": settings,
        "{place}": tmp_path / "place",
    }


def shown(line: str, words: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Run a command and return what the terminal received."""
    with terminal(monkeypatch) as seen, pytest.raises(SystemExit):
        app([str(words.get(word, word)) for word in line.split(" ")], prog_name="vcha")
    return seen


@pytest.mark.usefixtures("labs", "api", "records", "machine", "first_node")
@pytest.mark.parametrize("line", [line for lines in DRIVEN.values() for line in lines])
def test_what_others_wrote_is_text(
    line: str, words: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves no cursor, sets no title, hides nothing and forges no line; and it is shown."""
    if line == OWN:
        return
    met: list[Exception] = []
    text = errors._text

    def told(error: Exception) -> str:
        met.append(error)
        return text(error)

    monkeypatch.setattr(errors, "_text", told)
    shown(line, words, monkeypatch).assert_harmless()
    assert not [error for error in met if isinstance(error, AMISS)], "it came not so far"


@pytest.mark.usefixtures("labs", "machine")
@pytest.mark.parametrize(
    "line",
    [lines[0] for command, lines in DRIVEN.items() if command.startswith(ASKS_A_SERVER)],
)
def test_a_servers_refusal_is_text(
    line: str, words: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each command that calls a server."""

    @asynccontextmanager
    async def opened(_: Target) -> AsyncIterator[Api]:
        raise refusal()
        yield Api()

    monkeypatch.setattr(Target, "api", opened)
    monkeypatch.setattr(call, "build", lambda *_: RestCall("GET", "/x"))
    shown(line, words, monkeypatch).assert_harmless()
