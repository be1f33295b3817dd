"""Patroni's dynamic configuration as a cluster needs it, whatever an undeploy left there."""

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import mode_settings, modes, patroni_client
from openvcha.cluster.patroni_client import PatroniUnreachable
from openvcha.operations.context import Services
from openvcha.store import keys
from openvcha.tasks.steps import Temporary

PROTECT_SECONDS = 30.0


async def configure(
    services: Services, wanted: patroni_client.Settings, waiting: LocalizableMessage
) -> None:
    """Set in the own Patroni what is not so yet. Raises Temporary when it does not answer."""
    found = await mode_settings.record(services.store).get() or {}
    if all(found.get(name) == value for name, value in wanted.items()):
        return
    try:
        await services.patroni.configure(services.identity.ha_address, dict(wanted))
    except PatroniUnreachable as error:
        raise Temporary(waiting) from error


async def protect(services: Services) -> LocalizableMessage | None:
    """Make commits wait for a standby again, let nobody do without the store, set the mode again.

    Returns what has to come first, None when all is set. Until Patroni's ``/sync`` says who has
    everything, any standby may lead: so long a primary that crashes starts again itself.
    """
    waiting = message("progress.protect")
    await configure(services, {"synchronous_mode": True}, waiting)
    if not services.credentials.pending():
        await need_the_store(services, waiting)
    if (await patroni_client.sync_state(services.store)).leader is None:
        return waiting
    await configure(
        services, {**patroni_client.PROTECTING, **await _of_the_mode(services)}, waiting
    )
    return None


async def _of_the_mode(services: Services) -> dict[str, object]:
    """Return what the configured mode has on: an undeploy takes it away, though it may yet fail."""
    return dict.fromkeys(modes.SETTINGS[(await services.observer.config()).mode], True)


async def need_the_store(services: Services, waiting: LocalizableMessage) -> None:
    """Remove the failsafe mode, with its key. Raises Temporary."""
    await configure(services, {patroni_client.FAILSAFE: None}, waiting)
    if await services.store.get(keys.PATRONI_FAILSAFE) is not None:
        await services.store.delete(keys.PATRONI_FAILSAFE)


async def protects(services: Services) -> bool:
    """Return whether ``protect`` has nothing left to do."""
    looked = await mode_settings.look(services.store)
    return (
        not looked.unfit
        and looked.on >= (await _of_the_mode(services)).keys()
        and not await patroni_client.failsafe_members(services.store)
    )
