"""Change of the mode: each setting in turn, each in effect before the next; then the mode itself.

A mode's settings are in Patroni's dynamic configuration. The configured mode is written last: it
is the mode that the cluster is in, not the one that it is changing to.
"""

from collections.abc import Sequence
from functools import partial

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.api.structures import ClusterMode, LocalizableMessage, ModeClusterMode
from openvcha.cluster import mode_settings, modes, patroni_client, preconditions
from openvcha.cluster.config import ClusterConfig, cluster_record
from openvcha.operations.caller import Caller
from openvcha.operations.context import Services
from openvcha.operations.preconditions import require, require_still
from openvcha.operations.waiting import Awaited, wait_until
from openvcha.store import keys
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import Step, TaskContext

SERVICE = "com.vmware.vcenter.vcha.cluster.mode"
EFFECT_SECONDS = 40.0
"""Some of Patroni's cycles, in addition to the ttl, after which it waits for no silent member."""
STOP_SECONDS = 100.0
"""PostgreSQL's last checkpoint, in addition to the ttl, after which a lost node counts as down."""
SYNC_SECONDS = 300.0


class ModeChange(msgspec.Struct, frozen=True):
    """A change of the mode, as stored with the task."""

    old: ClusterMode
    new: ClusterMode


async def set_mode(services: Services, caller: Caller, mode: ModeClusterMode) -> str:
    """Create the task of a change, and return its id. Raises ApiError when it is refused."""
    wanted = ClusterMode(mode.value)
    seen = await require(services, partial(preconditions.why_not_mode, wanted))
    task = await services.journal.create(
        service=SERVICE,
        operation="set$task",
        description=message("mode.set", wanted),
        user=caller.user,
        arguments=ModeChange(seen.config.mode, wanted),
    )
    return task.id


def mode_plan(services: Services, record: TaskRecord) -> Sequence[Step]:
    """Return the steps of a change, in the order of its settings."""
    change = msgspec.convert(record.arguments, ModeChange)
    steps: list[Step] = [CheckMode(services, change)]
    for setting, value in modes.setting_changes(change.old, change.new):
        if (setting, value) == (keys.PAUSE, False):
            steps.append(AwaitSync(services))
        steps.append(SwitchSetting(services, setting, value=value))
    if change.new is ClusterMode.DISABLED:
        steps.append(AwaitStandbyStopped(services))
    return [*steps, WriteMode(services, change)]


class CheckMode(Step):
    """The step that checks that the change is allowed, now that the task holds the operation."""

    name = "check"

    def __init__(self, services: Services, change: ModeChange) -> None:
        self._services = services
        self._change = change

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether it was checked; later steps leave the state that the check requires."""
        return "checked" in ctx.state

    async def act(self, ctx: TaskContext) -> None:
        """Check again. Raises ApiError."""
        await ctx.progress(0.0, message("progress.check"))
        seen = await self._services.observe()
        if seen.config.mode is not self._change.old:
            changed = message("mode.changed", seen.config.mode)
            raise ApiError(ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, changed)
        require_still(preconditions.why_not_mode(self._change.new, seen))
        await ctx.remember(checked=True)

    async def undo(self, ctx: TaskContext) -> None:
        """Do nothing: nothing was changed."""


class SwitchSetting(Step):
    """The step that switches a setting and waits until every live Patroni applies it."""

    weight = 2

    def __init__(self, services: Services, setting: str, *, value: bool) -> None:
        self._services = services
        self._setting = setting
        self._value = value
        self.name = f"{setting.removeprefix('openvcha_')}.{_word(value)}"

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the setting is requested and in effect."""
        del ctx
        asked = self._setting in await mode_settings.requested(self._services.store)
        return asked is self._value and await self._unmet(self._value) is None

    async def act(self, ctx: TaskContext) -> None:
        """Switch the setting, and wait until it is in effect."""
        await self._switch(ctx, value=self._value)

    async def undo(self, ctx: TaskContext) -> None:
        """Switch the setting back, and wait: the order matters for a rollback, too."""
        await self._switch(ctx, value=not self._value)

    async def _switch(self, ctx: TaskContext, *, value: bool) -> None:
        await mode_settings.record(self._services.store).update(
            lambda fields: mode_settings.with_setting(fields, self._setting, value),
            guards=[ctx.guard],
            idempotent=True,
        )
        seconds = await _leader_ttl(self._services) + EFFECT_SECONDS
        await wait_until(ctx, lambda: self._unmet(value), seconds)

    async def _unmet(self, value: bool) -> LocalizableMessage | None:
        """Return what is missing: the leader and all live members must apply the setting."""
        services = self._services
        leader = await patroni_client.leader(services.store)
        told = await mode_settings.effective(services.store)
        if leader not in told or any((self._setting in on) is not value for on in told.values()):
            word = self._setting.removeprefix("openvcha_")
            return message("progress.mode", word, _word(value))
        if value and self._setting == keys.DETACHED:
            return await self._in_sync()
        return None

    async def _in_sync(self) -> LocalizableMessage | None:
        standbys = (await patroni_client.sync_state(self._services.store)).standbys
        return message("progress.mode.detach", ", ".join(sorted(standbys))) if standbys else None


class AwaitStandbyStopped(Awaited):
    """The wait until the passive's node has stopped its PostgreSQL; a lost node counts as stopped.

    PostgreSQL starts again once the standby is attached again.
    """

    name = "stop"
    weight = 2

    def __init__(self, services: Services) -> None:
        self._services = services
        self.seconds = STOP_SECONDS

    async def act(self, ctx: TaskContext) -> None:
        """Wait. Raises WaitTimedOut with what is missing."""
        self.seconds = STOP_SECONDS + await _leader_ttl(self._services)
        await super().act(ctx)

    async def unmet(self) -> LocalizableMessage | None:
        """Return what is missing. Patroni is silent during the stop; a dead one has no key."""
        passive = (await self._services.observe()).passive
        if passive is None or (passive.patroni and passive.patroni.stopped):
            return None
        lives = passive.config.member in await mode_settings.effective(self._services.store)
        if passive.patroni is None and not lives:
            return None
        return message("progress.mode.stop", passive.config.name)


class AwaitSync(Awaited):
    """The wait until the passive is in sync, before automatic failover is allowed.

    The passive starts and catches up by itself.
    """

    name = "sync"
    weight = 10

    def __init__(self, services: Services) -> None:
        self._services = services
        self.seconds = SYNC_SECONDS

    async def unmet(self) -> LocalizableMessage | None:
        """Return what is missing: ``/sync`` must name the passive."""
        seen = await self._services.observe()
        if seen.passive_in_sync and seen.passive and not seen.passive.unsure:
            return None
        return message("progress.mode.sync", seen.passive.config.name if seen.passive else "-")


class WriteMode(Step):
    """The step that writes the new mode to the configuration; its settings are in effect."""

    name = "mode"
    cancelable = False

    def __init__(self, services: Services, change: ModeChange) -> None:
        self._services = services
        self._change = change

    async def done(self, ctx: TaskContext) -> bool:
        """Return whether the configuration has the new mode."""
        del ctx
        return (await self._services.observer.config()).mode is self._change.new

    async def act(self, ctx: TaskContext) -> None:
        """Write the new mode."""
        await self._write(ctx, self._change.new)

    async def undo(self, ctx: TaskContext) -> None:
        """Write the old mode, before its settings are restored."""
        await self._write(ctx, self._change.old)

    async def _write(self, ctx: TaskContext, mode: ClusterMode) -> None:
        def named(config: ClusterConfig) -> ClusterConfig:
            return msgspec.structs.replace(config, mode=mode)

        await cluster_record(self._services.store).update(
            named, guards=[ctx.guard], idempotent=True
        )


async def _leader_ttl(services: Services) -> int:
    """Return for how many seconds the key of a silent member lives on."""
    told = (await mode_settings.read(services.store)).leader_ttl
    return told or services.identity.timers.leader_ttl


def _word(value: bool) -> str:
    return "on" if value else "off"


prepare(__name__)
