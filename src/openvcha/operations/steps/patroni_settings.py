"""Patroni's dynamic configuration as a cluster needs it, also after an undeploy."""

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import mode_settings, modes, patroni_client
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.operations.context import Services
from openvcha.store import keys
from openvcha.tasks.steps import TemporaryFailure

PROTECT_SECONDS = 30.0


async def configure(
    services: Services, wanted: patroni_client.Settings, waiting: LocalizableMessage
) -> None:
    """Apply settings to our own Patroni. Raises TemporaryFailure when it does not respond."""
    found = await mode_settings.record(services.store).get() or {}
    if all(found.get(name) == value for name, value in wanted.items()):
        return
    try:
        await services.patroni.configure(services.identity.ha_address, dict(wanted))
    except PatroniUnreachable as error:
        raise TemporaryFailure(waiting) from error


async def protect(services: Services) -> LocalizableMessage | None:
    """Make commits wait for a standby, disable the failsafe mode, restore the mode's settings.

    Returns what to wait for, None when everything is set. Until Patroni's ``/sync`` names the
    members with every acknowledged write, any standby may take over, so a primary that crashes
    restarts itself until then.
    """
    waiting = message("progress.protect")
    await configure(services, {"synchronous_mode": True}, waiting)
    if not services.credentials.pending():
        await disable_failsafe(services, waiting)
    if (await patroni_client.sync_state(services.store)).leader is None:
        return waiting
    await configure(
        services, {**patroni_client.PROTECTING, **await _of_the_mode(services)}, waiting
    )
    return None


async def _of_the_mode(services: Services) -> dict[str, object]:
    """Return the settings of the configured mode, which an undeploy may have removed."""
    return dict.fromkeys(modes.SETTINGS[(await services.observer.config()).mode], True)


async def disable_failsafe(services: Services, waiting: LocalizableMessage) -> None:
    """Disable the failsafe mode, and delete its key. Raises TemporaryFailure."""
    await configure(services, {patroni_client.FAILSAFE: None}, waiting)
    if await services.store.get(keys.PATRONI_FAILSAFE) is not None:
        await services.store.delete(keys.PATRONI_FAILSAFE)


async def protects(services: Services) -> bool:
    """Return whether ``protect`` has nothing to do."""
    looked = await mode_settings.read(services.store)
    return (
        not looked.unfit
        and looked.on >= (await _of_the_mode(services)).keys()
        and not await patroni_client.failsafe_members(services.store)
    )
