"""Warnings: conditions that are not faults yet but will become faults. Pure functions."""

import ipaddress
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import MappingProxyType

from openvcha.cluster.config import address_text
from openvcha.cluster.findings.address import address_obstacles
from openvcha.cluster.findings.finding import Finding, finding
from openvcha.cluster.modes import SETTINGS
from openvcha.cluster.observing.observation import NodeObservation, Observation
from openvcha.store import keys
from openvcha.store.etcd_releases import why_unfit
from openvcha.store.node_facts import PostgresFacts, RefusalCause
from openvcha.store.space import WARN_PERCENT

GIB = 1 << 30
DISK_MIN_FREE_BYTES = GIB
"""The logs of a base backup, or those that a replication slot retains, take this in minutes."""
DISK_PERCENT, DISK_AMPLE_BYTES = 5, 10 * GIB
"""Below this share the warning comes earlier, unless a large disk has plenty left."""
CERTIFICATE_DAYS = 30
"""Time to plan a redeploy; certificate services warn a month ahead, too."""
CLOCK_SECONDS = 2.0
"""etcd warns from one second on; a report may take most of a second on a busy machine."""
MAX_SHOWN_ITEMS, MAX_SHOWN_CHARACTERS = 10, 200
"""An attacker may forge a lot: only this much of it is shown."""
ETCD_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}", re.ASCII)
LAG_BYTES = 64 << 20
"""Four segments of the log: a passive that keeps up is never that far behind."""
AUTO_FILE = "postgresql.auto.conf"
ROLE_ADVICE = "setting.of.role.recommendation"
EARLY_ADVICE = "setting.early.commit.recommendation"
REFUSAL_ADVICE: Mapping[RefusalCause, str] = MappingProxyType(
    {
        RefusalCause.ROLE: "postgres.refuses.recommendation",
        RefusalCause.TLS: "postgres.refuses.tls.recommendation",
        RefusalCause.RULES: "postgres.refuses.rules.recommendation",
        RefusalCause.FULL: "postgres.refuses.full.recommendation",
        RefusalCause.NAMESPACE: "postgres.refuses.namespace.recommendation",
        RefusalCause.HANGING: "postgres.refuses.hanging.recommendation",
    }
)


def find_warnings(seen: Observation) -> Iterator[Finding]:
    """Return all warnings; unknown facts cause none."""
    passive = seen.passive
    if passive is not None and seen.passive_in_sync and (lag := lagging(seen, passive)):
        yield lag
    yield from _filling(seen)
    yield from differing_versions(seen)
    yield from _differing_settings(seen)
    yield from _missing_slots(seen)
    yield from _moving_address(seen)
    yield from address_obstacles(seen)
    if seen.refused:
        names = ", ".join(ascii(name)[1:-1] for name in seen.refused)
        yield finding("patroni.setting.refused", names, about=())
    yield from _wrong_patroni_settings(seen)
    yield from _differing_ttl(seen)
    yield from _owed_deletions(seen)
    for key in seen.unreadable:
        yield finding("record.unreadable", ascii(key)[1:-1])
    for name, reason in seen.failing.items():
        yield finding("background.failing", name, reason)
    if keys.ROLL in seen.forged:
        yield finding("roll.older", about=())
    for key in [key for key in seen.forged if key != keys.ROLL][:MAX_SHOWN_ITEMS]:
        shown = ascii(key)[1:-1][:MAX_SHOWN_CHARACTERS]
        yield finding("record.forged", shown)
    for node in seen.nodes:
        yield from _trouble(node)
        if node is not seen.active:
            yield from postgres_refusal(node)
        yield from overridden_settings(node.config.name, _postgres(node))
        yield from _collations(node)
        yield from _disk(node)
        yield from _certificates(seen, node)
        yield from _clock(node)
        yield from _old_etcd(node)
        if node.report.silent and node.etcd_answers:
            yield finding("node.silent", node.config.name)


def lagging(seen: Observation, node: NodeObservation) -> Finding | None:
    """Return the finding of a standby that lags more than a failover should wait for."""
    lag = seen.lag(node.config.member)
    if lag is None or (lag.bytes_behind <= LAG_BYTES and lag.seconds_behind <= seen.lag_limit):
        return None
    seconds = f"{lag.seconds_behind:.1f}"
    return finding("replication.lagging", node.config.name, lag.bytes_behind, seconds)


def _filling(seen: Observation) -> Iterator[Finding]:
    """Warn when the store is filling up; a full one is a fault."""
    space = seen.space
    if space is not None and not space.full and space.percent >= WARN_PERCENT:
        said = (space.percent, space.size, space.quota, space.member, space.in_use)
        yield finding("store.filling", *said, about=())


def _owed_deletions(seen: Observation) -> Iterator[Finding]:
    """Warn about VMs of removed nodes that are not deleted yet."""
    for owed in seen.owed:
        yield finding("deletion.owed", owed.name, owed.vm, owed.reason, about=(owed.name, owed.vm))


def _wrong_patroni_settings(seen: Observation) -> Iterator[Finding]:
    """Warn about settings of Patroni that no running operation explains."""
    mode = seen.config.mode
    wrong = {name: name in SETTINGS[mode] for name in keys.SETTINGS}
    wrong = {name: on for name, on in wrong.items() if on is not (name in seen.settings)}
    if seen.running is None and (seen.unfit or wrong):
        wanted = {**seen.unfit, **wrong}
        shown = ", ".join(f"{name}={json.dumps(value)}" for name, value in wanted.items())
        yield finding("patroni.settings.unfit", mode, shown, about=())


def _differing_ttl(seen: Observation) -> Iterator[Finding]:
    """Warn where the nodes wait by another ttl than Patroni's, which was changed later."""
    patroni, node = seen.leader_ttl, seen.node_leader_ttl
    if patroni is not None and node is not None and patroni != node:
        yield finding("leader.ttl.differs", patroni, node, about=())


def differing_versions(seen: Observation) -> Iterator[Finding]:
    """Find the programs of which not all nodes run the same version."""
    by_program: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for node in seen.nodes:
        for program, version in (node.report.facts.versions if node.report.facts else {}).items():
            by_program[program][version].append(node.config.name)
    for program, versions in by_program.items():
        if len(versions) > 1:
            shown = "; ".join(f"{v} on {', '.join(names)}" for v, names in versions.items())
            yield finding("versions.differ", program, shown)


def _postgres(node: NodeObservation) -> PostgresFacts | None:
    return node.report.facts.postgres if node.report.facts else None


def overridden_settings(
    name: str, told: PostgresFacts | None, *, vital: bool | None = None
) -> Iterator[Finding]:
    """Return findings for the cluster's settings that were overridden on a node.

    ``vital`` selects one kind; each finding has the command that reverts the setting.
    """
    for each in told.overrides if told else ():
        if vital is not None and each.vital is not vital:
            continue
        where = () if each.file.endswith(AUTO_FILE) else (each.file,)
        kind = "setting.elsewhere" if where else "setting.overridden"
        advice = (f"{kind}.recommendation", name, each.name, *where)
        said = (each.name, name, each.value, each.file)
        yield finding("setting.overridden", *said, about=(each.name, name), advice=advice)
    for role in told.roles if told and vital is not True else ():
        owner = role.partition(":")[0]
        yield finding(
            "setting.of.role", name, role, about=(name, owner), advice=(ROLE_ADVICE, owner)
        )
    for early in told.commits if told and vital is not True else ():
        owner, _, value = early.rpartition(": ")
        yield finding(
            "setting.early.commit",
            *(name, owner, value),
            about=(name, owner),
            advice=(EARLY_ADVICE, owner),
        )


def _differing_settings(seen: Observation) -> Iterator[Finding]:
    """Warn about settings that should be equal on both data nodes but are not."""
    told = {node.config.name: found.shared for node in seen.nodes if (found := _postgres(node))}
    for setting in sorted(set().union(*told.values()) if len(told) > 1 else ()):
        values = {name: shared.get(setting) for name, shared in told.items()}
        if len(set(values.values())) > 1:
            shown = "; ".join(f"{value} on {name}" for name, value in values.items())
            yield finding("setting.differs", setting, shown)


def _missing_slots(seen: Observation) -> Iterator[Finding]:
    """Warn about replication slots that exist on the active only."""
    if seen.active is None or seen.passive is None:
        return
    here, there = _postgres(seen.active), _postgres(seen.passive)
    if here is None or there is None:
        return
    left = [slot for slot in here.slots if slot not in there.slots]
    for slot in left[:MAX_SHOWN_ITEMS]:
        shown = ascii(slot)[1:-1][:MAX_SHOWN_CHARACTERS]
        yield finding("slot.left.behind", shown, seen.active.config.name)


def _moving_address(seen: Observation) -> Iterator[Finding]:
    """Warn when a failover changes the address of the service."""
    if seen.active is None or seen.passive is None:
        return
    active, passive = (
        address_text(node.config.failover_ip or seen.config.management)
        for node in (seen.active, seen.passive)
    )
    if active != passive:
        yield finding("failover.address", seen.passive.config.name, passive, active)


def _trouble(node: NodeObservation) -> Iterator[Finding]:
    """Warn when PostgreSQL of a node does not start or rejoin, with the reported reason."""
    trouble = node.report.facts.trouble if node.report.facts else None
    serves = node.patroni is not None and (node.patroni.primary or node.patroni.streaming)
    if trouble is not None and not serves:
        kind = "postgres.not.starting" if trouble.starts else "postgres.not.rejoining"
        yield finding(kind, node.config.name, trouble.reason)


def postgres_refusal(node: NodeObservation) -> Iterator[Finding]:
    """Report that PostgreSQL of a node refuses the cluster's logins, although it serves others."""
    facts = node.report.facts
    if facts is not None and facts.refusal is not None:
        name = node.config.name
        advice = (REFUSAL_ADVICE[facts.refusal_cause], name)
        yield finding("postgres.refuses", name, facts.refusal, advice=advice)


def _collations(node: NodeObservation) -> Iterator[Finding]:
    """Warn when indexes on text may be corrupt on a node, also on a passive."""
    facts = _postgres(node)
    if facts is not None and facts.collations:
        shown = [
            ascii(each)[1:-1][:MAX_SHOWN_CHARACTERS] for each in facts.collations[:MAX_SHOWN_ITEMS]
        ]
        yield finding("collation.differs", node.config.name, "; ".join(shown))


def _disk(node: NodeObservation) -> Iterator[Finding]:
    facts = node.report.facts
    if facts is None:
        return
    share = facts.disk_total * DISK_PERCENT // 100
    if facts.disk_free < max(DISK_MIN_FREE_BYTES, min(share, DISK_AMPLE_BYTES)):
        yield finding("disk.nearly.full", node.config.name, facts.disk_free, facts.disk_total)


def _certificates(seen: Observation, node: NodeObservation) -> Iterator[Finding]:
    facts = node.report.facts
    if facts is None or seen.time is None:
        return
    for kind, until in (("node", facts.certificate_until), ("API", facts.api_certificate_until)):
        if until is not None and until - seen.time < timedelta(days=CERTIFICATE_DAYS):
            name, day = node.config.name, f"{until:%Y-%m-%d %H:%M} UTC"
            advice = (f"certificate.{kind.lower()}.recommendation", name)
            yield finding("certificate.expires", kind, name, day, about=(kind, name), advice=advice)


def _clock(node: NodeObservation) -> Iterator[Finding]:
    off = node.report.clock_offset
    if off is not None and abs(off) > CLOCK_SECONDS:
        yield finding("clock.skew", node.config.name, f"{off:+.1f}")


def _old_etcd(node: NodeObservation) -> Iterator[Finding]:
    """Warn about an etcd that is for labs only, on a node that is in none."""
    facts, address = node.report.facts, ipaddress.ip_address(node.config.ha_address)
    version = facts.versions.get("etcd", "") if facts else ""
    # The store may hold any text: only numbers are compared and shown.
    if address.is_loopback or not ETCD_VERSION.fullmatch(version):
        return
    if why := why_unfit(tuple(map(int, version.split(".")))):
        yield finding("etcd.old", node.config.name, version, why)
