"""`vcha node make-standalone` and `vcha node promote`, for a cluster that cannot recover itself."""

import asyncio
import datetime as dt
import secrets
from pathlib import Path
from typing import Annotated

import typer

from openvcha.cli.accounts import node_directory
from openvcha.cli.output.errors import fail, reporting_errors
from openvcha.cli.output.plain import confirm, prompt, say
from openvcha.cluster.observing.observation import Observation
from openvcha.daemon.compose import open_services
from openvcha.daemon.recovery import promotion
from openvcha.daemon.recovery import promotion_check as promoting
from openvcha.daemon.recovery.promotion import PromotionOutcome
from openvcha.daemon.recovery.promotion_check import PromotionFacts
from openvcha.daemon.recovery.standalone_check import ask_all, check_standalone, own_view
from openvcha.daemon.recovery.store_refusal import StoreRefusal, ask_own_store, observe_repeatedly
from openvcha.node.identity import Identity, load_identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import load_kept
from openvcha.node.postgres.standby_data.base_backup import has_data
from openvcha.node.process.process_tree import is_running
from openvcha.node.process.status import load_status
from openvcha.node.recovery import standalone_rules
from openvcha.node.recovery.own_data import missing_data, missing_store
from openvcha.node.recovery.recovery import outcome_of
from openvcha.node.recovery.request import (
    RecoveryRequest,
    RequestKind,
    Withdrawal,
    submit,
    withdraw,
)
from openvcha.node.recovery.survey import Survey
from openvcha.node.security.tls import NodeTls
from openvcha.system.proc import boot_id
from openvcha.system.silence import SILENCE_SECONDS

Directory = Annotated[
    Path, typer.Argument(help="The node's directory.", exists=True, file_okay=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Cancel = Annotated[
    bool, typer.Option("--cancel", help="Withdraw the request, unless the store is separated.")
]

STAND_ALONE = "; if both others are gone for good, use `vcha node make-standalone`"
OUTCOME_SECONDS = 300.0
FAILED = {
    PromotionOutcome.CHANGED: (
        "was not made the primary: the leader has just changed; see which node leads and try again"
    ),
    PromotionOutcome.PATRONI_SILENT: (
        "was not made the primary: its own Patroni did not respond within"
        f" {promotion.PATRONI_START_SECONDS:g} s, so it could not take over; nothing was changed."
        " See `vcha node status` and its log patroni.jsonl; restart the node"
    ),
    PromotionOutcome.UNCHANGED: (
        "was not made the primary: its Patroni did not take over (see its log"
        " patroni.jsonl); the change was undone"
    ),
    PromotionOutcome.PROMOTING: (
        "leads, but its database does not accept writes yet; it keeps trying (see its log"
        " patroni.jsonl)"
    ),
    PromotionOutcome.LOST: (
        "became the leader, then lost leadership. Check which node leads now and read this node's"
        " patroni.jsonl before you try again"
    ),
}


def make_standalone(directory: Directory, yes: Yes = False, cancel: Cancel = False) -> None:
    """Make this node a cluster of its own when both others are gone for good.

    The store is reduced to one member, the configuration becomes that of a first node, and the node
    accepts writes again. This is refused while a quorum, or any other node, responds: power off
    what must not continue. All others must then be silent for 30 s before anything changes. A node
    that is not running does it if it is started within 10 minutes, before the machine restarts.
    """
    with reporting_errors():
        layout = Layout(node_directory(directory))
        if cancel:
            _withdraw(layout)
            return
        identity = _data_node(layout)
        if lacking := missing_store(layout):
            raise fail(f"{identity.name} was not made stand-alone: {lacking}")
        view = own_view(load_status(layout.root), runs=is_running(layout.root))
        found = asyncio.run(ask_all(layout, identity, view))
        say("What this node knows:")
        for line in standalone_rules.identity_lines(found, dt.datetime.now(dt.UTC)):
            say(f"  {line}")
        if reason := asyncio.run(check_standalone(layout, found)):
            raise fail(f"{identity.name} was not made stand-alone: {reason}")
        _explain_alone(found)
        if not yes and not confirm(f"Make {identity.name} stand-alone?"):
            raise fail("nothing was changed")
        _ask_supervisor(layout, RequestKind.STANDALONE, identity)
        say(f"{identity.name} is stand-alone; as soon as it leads, deploy a cluster again")


def promote(directory: Directory, yes: Yes = False) -> None:
    """Make this passive the primary when the active is lost and Patroni does not promote it.

    If rows may be lost, or another primary may be running, you must type the node's name; --yes is
    not enough.
    """
    with reporting_errors():
        layout = Layout(node_directory(directory))
        identity = _data_node(layout)
        _promote(layout, identity, yes=yes)
        say(f"{identity.name} is the active and accepts writes")


def _promote(layout: Layout, identity: Identity, *, yes: bool) -> None:
    if not is_running(layout.root):
        raise fail(
            f"{identity.name} is not running: start it first; it then waits until it may lead"
        )
    facts = asyncio.run(_observed(layout, identity))
    seen, member = facts.seen, identity.member
    from_old_data, kept = not has_data(layout), load_kept(layout, identity)
    judged = promoting.assess_promotion(
        promoting.check_promotion(seen, member, facts.others, facts.creation),
        promoting.gather_evidence(seen, member, facts.patroni, kept, from_old_data=from_old_data),
    )
    if judged.refused:
        raise fail(f"{identity.name} was not made the primary: {judged.refused}")
    say("What may be lost:")
    for line in judged.lost.lines:
        say(f"  {line}")
    if judged.risk:
        say(f"  Another primary may be running: {judged.risk}. What it acknowledges will be lost.")
    if judged.requires_name:
        typed = prompt(f"Type the name of this node ({identity.name}) to proceed anyway")
        if typed != identity.name:
            raise fail("the name does not match; nothing was changed")
    elif not yes and not confirm(f"Make {identity.name} the primary?"):
        raise fail("nothing was changed")
    if not has_data(layout):
        _ask_supervisor(layout, RequestKind.RESTORE, identity)
    outcome = asyncio.run(_promoted(layout, seen))
    if outcome is not PromotionOutcome.LEADS:
        raise fail(f"{identity.name} {FAILED[outcome]}")


def _data_node(layout: Layout) -> Identity:
    identity = load_identity(layout.root)
    if lacking := missing_data(identity, layout):
        raise fail(f"{identity.name} cannot be the active: {lacking}")
    return identity


def _explain_alone(found: Survey) -> None:
    say("What may be lost:")
    for line in standalone_rules.explained(found.identity, found.kept):
        say(f"  {line}")
    say("The other nodes must be off and must stay off: delete them, never start them again.")


def _ask_supervisor(layout: Layout, wish: RequestKind, identity: Identity) -> None:
    asked = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    request = RecoveryRequest(wish=wish, id=secrets.token_hex(8), asked=asked, boot=boot_id())
    submit(layout, request)
    if not is_running(layout.root):
        say(
            f"{identity.name} is not running; the change will be made when it starts, within"
            " 10 min; to withdraw it, use `vcha node make-standalone --cancel`"
        )
        raise typer.Exit
    if wish is RequestKind.STANDALONE:
        say(f"All others must be silent for {SILENCE_SECONDS:g} s; this may take some minutes.")
    outcome = asyncio.run(outcome_of(layout, request, OUTCOME_SECONDS))
    if outcome is None:
        raise fail(f"still in progress after {OUTCOME_SECONDS:g} s; see {layout.logs}")
    if outcome.error:
        raise fail(f"failed: {outcome.error}")


def _withdraw(layout: Layout) -> None:
    name = load_identity(layout.root).name
    match withdraw(layout):
        case Withdrawal.WITHDRAWN:
            say(f"the request was withdrawn: {name} will not be made stand-alone")
        case Withdrawal.NOTHING:
            raise fail(f"there is no request to make {name} stand-alone")
        case Withdrawal.BEGUN:
            raise fail(
                f"the request cannot be withdrawn: the store of {name} is, or may be, separated"
                " from the others already; start the node to finish it, and never start the others"
            )


async def _observed(layout: Layout, identity: Identity) -> PromotionFacts:
    """Observe the cluster, its last leader's position, and the nodes outside it."""

    async def observe() -> PromotionFacts:
        async with open_services(layout.root) as services:
            return await promoting.gather_facts(services)

    seen = await observe_repeatedly(observe, lambda: ask_own_store(identity, NodeTls(layout)))
    if isinstance(seen, StoreRefusal):
        advice = STAND_ALONE if seen.standalone else ""
        raise fail(f"{identity.name} cannot be made the primary: {seen.reason}{advice}")
    return seen


async def _promoted(layout: Layout, seen: Observation) -> PromotionOutcome:
    async with open_services(layout.root) as services:
        return await promotion.promote(services, seen)
