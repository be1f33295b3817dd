"""The rotation of the node's credentials while the node serves."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from openvcha.node.background.context import NodeContext
from openvcha.node.etcd.member import client_url, is_healthy
from openvcha.node.http import ask
from openvcha.node.identity import Secrets, load_secrets, save_secrets
from openvcha.node.patroni.config import write_patroni_config
from openvcha.node.patroni.rest_login import accepts_password
from openvcha.node.postgres.leader import superuser_conninfo
from openvcha.node.postgres.own_names import OWN_ROLES
from openvcha.node.security.rotation import (
    FILE_NAME,
    Rotation,
    finish,
    in_place,
    load,
    put_in_place,
    rotation_path,
    save,
)
from openvcha.node.security.tls import NodeTls
from openvcha.store import keys
from openvcha.store.account import Account
from openvcha.store.errors import StoreError
from openvcha.store.sealing.sealed_store import SealedStore
from openvcha.system.files.new_files import until_exists
from openvcha.system.network.host_port import url

if TYPE_CHECKING:
    from psycopg import AsyncConnection

Attempt = Callable[[], Awaitable[None]]

POLL_SECONDS = 0.2
PROBE_SECONDS = 2.0
STATEMENT_SECONDS = 10.0
END_SESSIONS = """
    select pg_terminate_backend(pid) from pg_stat_activity
     where usename = any(%s) and pid <> pg_backend_pid()
"""


class RotationBlocked(Exception):  # noqa: N818 - an expected condition, not a defect
    """The rotation cannot continue now; the text says why."""


async def run_rotations(context: NodeContext) -> None:
    """Run requested rotations until canceled; return at once on a witness."""
    if not context.identity.holds_data:
        await asyncio.Event().wait()
    await context.control.ready.wait()
    renewing, path = RotationRunner(context), rotation_path(context.layout)
    while True:
        await until_exists(path, POLL_SECONDS)
        if renewal := await asyncio.to_thread(load, context.layout):
            await renewing.carry_out(renewal)


class RotationRunner:
    """One rotation. Each step is idempotent."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._tls = NodeTls(context.layout)

    async def carry_out(self, renewal: Rotation) -> None:
        """Run the remaining steps, and wait as long as necessary."""
        layout = self._context.layout
        if not renewal.entered:
            async with self._context.control.passwords:
                await self._until(lambda: self._set_new_credentials(renewal.secrets))
            await self._until(lambda: self._add_account(renewal.account))
            renewal = msgspec.structs.replace(renewal, entered=True)
            save(layout, renewal)
        if not in_place(layout, renewal):
            await self._replace_files(renewal)
        # Always: an earlier run may have replaced the files and failed to write this.
        await self._until(self._configure_patroni)
        await self._until(self._verify)
        await self._until(self._end_sessions)
        await self._until(self._reseal)
        await self._until(lambda: self._revoke_other_accounts(renewal.account))
        finish(layout)
        self._context.control.tell(FILE_NAME, None)
        self._context.events.info("credentials rotated")

    async def _until(self, attempt: Attempt) -> None:
        """Retry until it succeeds; report the obstacle in the node's status."""
        while True:
            try:
                async with asyncio.timeout(STATEMENT_SECONDS):
                    await attempt()
            except (RotationBlocked, TimeoutError) as error:
                reason = str(error) or "PostgreSQL does not respond in time"
                self._context.control.tell(FILE_NAME, f"credentials are being rotated: {reason}")
            else:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _set_new_credentials(self, new: Secrets) -> None:
        """Set the new passwords in PostgreSQL, unless an earlier run has done so."""
        from psycopg import Error  # noqa: PLC0415 - every start of a node would wait for it

        try:
            async with await self._connect(new):
                return
        except (Error, OSError):
            pass  # it still has the old ones, or is unreachable: the next attempt shows which
        try:
            async with await self._connect(load_secrets(self._context.layout.root)) as connection:
                await _change_passwords(connection, new)
        except (Error, OSError) as error:
            raise RotationBlocked(
                f"PostgreSQL does not accept the new passwords: {error}"
            ) from error

    async def _add_account(self, new: Account) -> None:
        """Add the new account to the store, authenticated with the old one; idempotent."""
        try:
            await self._context.store.accounts.grant_all(new)
        except StoreError as error:
            raise RotationBlocked(f"the store does not accept the new account: {error}") from error

    async def _revoke_other_accounts(self, new: Account) -> None:
        """Revoke all other accounts of the store, in case they have leaked."""
        try:
            await self._context.store.accounts.revoke_others(new, {})
        except StoreError as error:
            raise RotationBlocked(
                f"the store has not dropped the old account yet: {error}"
            ) from error

    async def _replace_files(self, renewal: Rotation) -> None:
        """Replace the files while etcd is stopped, so that nothing serves old certificates."""
        context = self._context
        await context.control.halt("etcd")
        try:
            await asyncio.to_thread(put_in_place, context.layout, renewal)
        finally:
            context.control.begin("etcd")

    async def _configure_patroni(self) -> None:
        """Write Patroni's configuration, with the new account and passwords."""
        context = self._context
        try:
            await asyncio.to_thread(
                write_patroni_config, context.identity, context.layout, context.engines.postgres
            )
        except OSError as error:
            raise RotationBlocked(f"Patroni's configuration cannot be written: {error}") from error

    async def _verify(self) -> None:
        """Log in to all three servers with the new credentials: then they trust no others."""
        identity, tls = self._context.identity, self._tls()
        if not await is_healthy(client_url(identity), tls):
            raise RotationBlocked("etcd does not use the new certificate yet")
        place = url(identity.ha_address, identity.ports.patroni)
        # On every attempt: Patroni reloads its certificates only if nothing else has changed.
        self._context.control.reload("patroni")
        if not await ask(place, "/patroni", tls, PROBE_SECONDS):
            raise RotationBlocked("Patroni does not use the new certificate yet")
        # It reads the store's account and PostgreSQL's passwords together with this one.
        password = load_secrets(self._context.layout.root).patroni_rest
        if not await accepts_password(place, self._tls, password):
            raise RotationBlocked("Patroni does not use the new passwords yet")

    async def _end_sessions(self) -> None:
        """End all sessions that were opened with the old credentials: they would last forever."""
        from psycopg import Error  # noqa: PLC0415 - as above

        users = list(OWN_ROLES)
        try:
            async with await self._connect(load_secrets(self._context.layout.root)) as connection:
                await connection.execute(END_SESSIONS, [users])
        except (Error, OSError) as error:
            raise RotationBlocked(f"PostgreSQL does not accept the node yet: {error}") from error

    async def _reseal(self) -> None:
        """Reseal all records with the new key; from then on the old key's seals are invalid."""
        store, layout = self._context.store, self._context.layout
        try:
            for prefix in (*keys.SEALED, keys.PATRONI_CONFIG):
                if isinstance(store, SealedStore) and not await store.reseal(prefix):
                    raise RotationBlocked("the records are not resealed yet: others write them too")
        except StoreError as error:
            raise RotationBlocked(f"the records are not resealed yet: {error}") from error
        known = load_secrets(layout.root)
        await asyncio.to_thread(
            save_secrets, layout.root, msgspec.structs.replace(known, records_before=None)
        )

    async def _connect(self, known: Secrets) -> "AsyncConnection[Any]":
        from psycopg import AsyncConnection  # noqa: PLC0415 - as above

        identity, layout = self._context.identity, self._context.layout
        postgres = self._context.engines.postgres
        port = identity.ports.postgres
        place = superuser_conninfo(identity.ha_address, port, layout, known, postgres)
        return await AsyncConnection.connect(place)


async def _change_passwords(connection: "AsyncConnection[Any]", new: Secrets) -> None:
    """Change the passwords of all roles, or none."""
    # Imported here, as above.
    from openvcha.node.postgres.own_roles import change_password, passwords  # noqa: PLC0415

    row = await (await connection.execute("select pg_is_in_recovery()")).fetchone()
    if row is None or row[0]:
        raise RotationBlocked("PostgreSQL does not accept writes yet")
    for role, password in passwords(new).items():
        await connection.execute(change_password(connection, role, password))
    await connection.commit()
