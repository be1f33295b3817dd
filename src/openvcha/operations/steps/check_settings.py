"""The check of what a base backup of the active inherits: settings, slots, and more."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster.config import NodeKind
from openvcha.cluster.findings.warnings import overridden_settings
from openvcha.cluster.observing.observation import Observation
from openvcha.node.postgres.diagnosis.missing_files import MissingFile
from openvcha.node.postgres.superuser import PostgresUnreachable
from openvcha.operations.context import Services
from openvcha.store.node_facts import PostgresFacts


@dataclass(frozen=True)
class SettingsFindings:
    """What prevents a new data node (errors), and what its owner should know (warnings).

    ``silence``, one of the errors, is why the settings could not be read; that may pass.
    """

    errors: tuple[LocalizableMessage, ...] = ()
    warnings: tuple[LocalizableMessage, ...] = ()
    silence: LocalizableMessage | None = None


async def check_settings(services: Services, seen: Observation, kind: NodeKind) -> SettingsFindings:
    """Check the active's PostgreSQL; a witness takes no base backup.

    If it cannot be asked, a base backup would fail too; what the active has reported is shown.
    """
    if kind is NodeKind.WITNESS:
        return SettingsFindings()
    identity = services.identity
    try:
        told = await services.postgres.inspect(identity.ha_address)
    except PostgresUnreachable as error:
        silence = message("check.postgres.silent", error)
        facts = seen.active.report.facts if seen.active else None
        known = settings_findings(identity.name, (facts and facts.postgres) or PostgresFacts())
        return replace(known, errors=(silence, *known.errors), silence=silence)
    found = settings_findings(identity.name, told)
    return replace(found, warnings=(*found.warnings, *await _in_databases(services)))


async def _in_databases(services: Services) -> tuple[LocalizableMessage, ...]:
    identity = services.identity
    try:
        found = await services.postgres.missing_files(identity.ha_address)
    except PostgresUnreachable as error:
        return (message("check.postgres.silent", error),)
    return tuple(_uninstalled(identity.name, each) for each in found)


def _uninstalled(node: str, found: MissingFile) -> LocalizableMessage:
    name = "check.extension.missing" if found.extension else "check.function.missing"
    return message(name, found.name, found.database, node)


def settings_findings(name: str, told: PostgresFacts) -> SettingsFindings:
    """Return the findings from a node's facts: settings that replication depends on are errors."""
    return SettingsFindings(tuple(_settings(name, told, vital=True)), tuple(_warnings(name, told)))


def _warnings(name: str, told: PostgresFacts) -> Iterator[LocalizableMessage]:
    yield from _settings(name, told, vital=False)
    if told.pending_restart:
        yield message("check.pending.restart", name, ", ".join(told.pending_restart))
    for library in told.missing_libraries:
        yield message("check.library.missing", library, name)
    if told.collations:
        yield message("check.collation", name, "; ".join(told.collations))
    for slot in told.slots:
        yield message("check.slot", slot, name)


def _settings(name: str, told: PostgresFacts, *, vital: bool) -> Iterator[LocalizableMessage]:
    for found in overridden_settings(name, told, vital=vital):
        advice = found.condition.recommendation
        what_to_do = advice.default_message if advice else ""
        yield message("check.setting", found.condition.error.default_message, what_to_do)
