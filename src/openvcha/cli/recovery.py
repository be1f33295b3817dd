"""`vcha node make-standalone` and `vcha node promote`: for when the cluster cannot help itself."""

import asyncio
import secrets
from pathlib import Path
from typing import Annotated

import typer

from openvcha.api.structures import ConfigState
from openvcha.cli.errors import fail, told
from openvcha.cli.saying import confirm, prompt, say
from openvcha.cluster.config import cluster_record
from openvcha.cluster.observation import Observation
from openvcha.node.aside import asides
from openvcha.node.copy import has_data
from openvcha.node.etcd import known_endpoints
from openvcha.node.http import ask
from openvcha.node.identity import Identity, absolute, load_identity
from openvcha.node.layout import Layout
from openvcha.node.processes import NodeProcesses
from openvcha.node.recovery import Request, Wish, outcome_of, write_request
from openvcha.node.status import load_status
from openvcha.node.tls import NodeTls
from openvcha.service.context import Services
from openvcha.serving import promote as promoting
from openvcha.serving.compose import services_of
from openvcha.store.errors import StoreError
from openvcha.store.etcd import Etcd

Directory = Annotated[
    Path, typer.Argument(help="The node's directory.", exists=True, file_okay=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

ASK_SECONDS = 6.0
PROBE_SECONDS = 2.0
OUTCOME_SECONDS = 150.0


def make_standalone(directory: Directory, yes: Yes = False) -> None:
    """Make this node a cluster of its own, when both others are gone for good.

    The store is forced to one member, the configuration becomes that of a first node, and the
    node takes writes again. Refused while a majority, or any other node, answers.
    """
    with told():
        layout = Layout(absolute(directory))
        identity = _data_node(layout)
        _require_store(layout)
        if reason := asyncio.run(_why_not_alone(layout, identity)):
            raise fail(f"{identity.name} is not made stand-alone: {reason}")
        _explain_alone(layout, identity)
        if not yes and not confirm(f"Make {identity.name} stand-alone?"):
            raise fail("nothing was changed")
        _ask_supervisor(layout, Wish.STANDALONE, identity)
        say(f"{identity.name} stands alone; as soon as it leads it can be deployed again")


def promote(directory: Directory, yes: Yes = False) -> None:
    """Make this passive the primary, when the active is lost and Patroni does not dare.

    Refused while another primary may live; typing the node's name overrides that (--yes does not).
    """
    with told():
        layout = Layout(absolute(directory))
        identity = _data_node(layout)
        _promote(layout, identity, yes=yes)
        say(f"{identity.name} is the active and takes writes")


def _promote(layout: Layout, identity: Identity, *, yes: bool) -> None:
    if not _runs(layout):
        raise fail(f"{identity.name} does not run: start it first, it waits for its right to lead")
    seen = asyncio.run(_observed(layout, identity))
    refusal = promoting.why_not(seen, identity.member)
    if refusal and not refusal.overridable:
        raise fail(f"{identity.name} is not made the primary: {refusal.reason}")
    say("What may be lost:")
    say(f"  {promoting.losses(seen, identity.member)}")
    if refusal:
        say(f"  Another primary may live: {refusal.reason}. What it acknowledges is lost.")
        typed = prompt(f"Type the name of this node ({identity.name}) to do it all the same")
        if typed != identity.name:
            raise fail("that is not its name: nothing was changed")
    elif not yes and not confirm(f"Make {identity.name} the primary?"):
        raise fail("nothing was changed")
    if not has_data(layout):
        _ask_supervisor(layout, Wish.RESTORE, identity)
    if not asyncio.run(_promoted(layout, seen)):
        raise fail("who may lead has just changed: look again")


def _data_node(layout: Layout) -> Identity:
    identity = load_identity(layout.root)
    if not identity.holds_data:
        raise fail(f"{identity.name} is a witness: it has no data to go on with")
    if not has_data(layout) and not asides(layout):
        raise fail(f"{identity.name} has no data: {layout.pgdata} is empty")
    return identity


def _require_store(layout: Layout) -> None:
    if not (layout.etcd_data / "member").is_dir():
        raise fail(f"there is no store in {layout.etcd_data}: nothing can be made of it")


async def _why_not_alone(layout: Layout, identity: Identity) -> str | None:
    """Say why nothing has to be forced: a majority answers, or would with this node."""
    tls = NodeTls(layout)
    own, *others = known_endpoints(identity, layout)
    try:
        async with asyncio.timeout(ASK_SECONDS), Etcd([own, *others], tls) as store:
            members = await store.members()
            config = await cluster_record(store).get()
    except (StoreError, TimeoutError):
        members, config = [], None
    if [member.name for member in members] == [identity.member]:
        alone = config is None or config.state is ConfigState.NOTCONFIGURED
        return "it stands alone already" if alone else None
    if members:
        return "the store has a majority; lost nodes are replaced by redeploy"
    said = await asyncio.gather(*(ask(at, "/health", tls(), PROBE_SECONDS) for at in others))
    alive = [at for at, answer in zip(others, said, strict=True) if answer]
    if alive:
        return f"{', '.join(alive)} answers: with it there is a majority, or end it first"
    return None


def _explain_alone(layout: Layout, identity: Identity) -> None:
    found = load_status(layout.root)
    view = found.view if found else None
    in_sync = view.in_sync if view else None
    rows = {
        True: f"no row that was acknowledged before {identity.name} lost sight of the others.",
        False: f"the rows that were acknowledged after {identity.name} fell out of sync.",
        None: f"perhaps rows: nobody can say whether {identity.name} had all acknowledged ones.",
    }
    say("What may be lost:")
    say(f"  {rows[in_sync]}")
    say("  what the others acknowledged without this node, if they lived on.")
    say("  the last changes of the configuration, users and tasks, if others had them only.")
    say("  a task that runs ends as failed; what it has half made stays.")
    say("The other nodes must be off and must stay off: delete them, never start them again.")


def _ask_supervisor(layout: Layout, wish: Wish, identity: Identity) -> None:
    request = Request(wish=wish, id=secrets.token_hex(8))
    write_request(layout, request)
    if not _runs(layout):
        say(f"{identity.name} does not run: it is done when the node is started")
        raise typer.Exit
    outcome = asyncio.run(outcome_of(layout, request, OUTCOME_SECONDS))
    if outcome is None:
        raise fail(f"not done within {OUTCOME_SECONDS:g} s; it goes on: see {layout.logs}")
    if outcome.error:
        raise fail(f"not done: {outcome.error}")


def _runs(layout: Layout) -> bool:
    found = load_status(layout.root)
    return found is not None and found.pid in NodeProcesses().find(layout.root)


async def _observed(layout: Layout, identity: Identity) -> Observation:
    try:
        async with asyncio.timeout(ASK_SECONDS), services_of(layout.root) as services:
            return await services.observe()
    except (StoreError, TimeoutError) as error:
        raise fail(
            f"{identity.name} cannot be made the primary: the store has no majority;"
            " when both others are gone for good, `vcha node make-standalone` is what you need"
        ) from error


async def _promoted(layout: Layout, seen: Observation) -> bool:
    async with services_of(layout.root) as services:
        return await _given(services, seen)


async def _given(services: Services, seen: Observation) -> bool:
    try:
        return await promoting.promote(services, seen)
    except TimeoutError as error:
        raise fail(
            f"it has the right to lead, but does not take writes within"
            f" {promoting.PROMOTE_SECONDS:g} s: its log patroni.jsonl says why"
        ) from error
