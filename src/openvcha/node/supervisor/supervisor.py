"""The main program of a node: it starts its parts, keeps them running and stops them in order."""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from openvcha.node.background.base_backup_publisher import BaseBackupPublisher
from openvcha.node.background.context import Control
from openvcha.node.background.registry import NodeContext, run_jobs
from openvcha.node.background.rejoin import base_backup_or_restore
from openvcha.node.engines import Engines, find_engines
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import known_endpoints, wait_until_admitted
from openvcha.node.identity import Secrets, absolute, load_identity, load_secrets
from openvcha.node.layout import Layout
from openvcha.node.patroni.config import write_patroni_config
from openvcha.node.postgres.leader import find_leader
from openvcha.node.postgres.server import postgres_major
from openvcha.node.postgres.standby_data.base_backup import (
    BaseBackup,
    Publish,
    completed_when_written,
    first_base_backup,
    has_data,
)
from openvcha.node.postgres.standby_data.old_data import list_old_data
from openvcha.node.process.lock import lock_node
from openvcha.node.process.logs import RotatingLog, log_path, logger
from openvcha.node.process.managed_process import Part, PartSpec, stop_all
from openvcha.node.process.process_tree import find_tree, kill_tree, read_process
from openvcha.node.process.status import NodeStatus, OwnView, save_status
from openvcha.node.recovery.recovery import Recovery, Rewrite
from openvcha.node.recovery.request import load_request, set_unreadable_aside, wait_for_request
from openvcha.node.security.rotation import put_in_place_at_start
from openvcha.node.security.tls import NodeTls
from openvcha.node.service_manager.notify import ServiceManager
from openvcha.node.store_access import cluster_store
from openvcha.node.supervisor.plan import PartPlan, all_parts, reaper_part
from openvcha.store.base_backup_reports import BaseBackupReport
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import Store
from openvcha.store.sealing.cluster_store import SealedEtcd
from openvcha.system.accounts.terminal import write_error
from openvcha.system.files.durable import NO_SPACE, write_private

RETRY_SECONDS = 10.0
"""The pause before an unfinished recovery request, or a start on a full disk, is tried again."""


class Supervisor:
    """A running node. Create it and await `run` once."""

    def __init__(
        self,
        directory: Path,
        *,
        plan: PartPlan = all_parts,
        engines: Engines | None = None,
        environment: Mapping[str, str] = os.environ,
        rewrite: Rewrite | None = None,
        manager: ServiceManager | None = None,
    ) -> None:
        self._rewrite = rewrite
        self._manager = manager or ServiceManager(environment)
        self._layout = Layout(absolute(directory))
        self._identity = load_identity(self._layout.root)
        self._environment = environment
        self._engines = engines or find_engines(
            environment,
            postgres_major(self._layout.pgdata),
            lab=self._identity.any_etcd,
            chosen=self._identity.engines,
        )
        self._plan = plan
        self._layout.make_directories()
        self._log = RotatingLog(log_path(self._layout.logs, "supervisor"))
        self._events = logger(self._log, "supervisor")
        self._parts: list[Part] = []
        self._base_backup_report: BaseBackupReport | None = None
        self._notes: dict[str, str] = {}
        self._view: OwnView | None = None
        own = read_process(os.getpid())
        self._started = own.started if own else 0

    async def run(self, stop: asyncio.Event) -> None:
        """Run the node until `stop` is set, then stop all its parts. Raises NodeRuns."""
        with lock_node(self._layout.lock):
            self._events.info("node starting", member=self._identity.member, pid=os.getpid())
            try:
                # Ready already, whatever the parts still wait for: a base backup takes hours.
                async with self._manager.informed():
                    await self._attempt_until(stop)
            except Exception:
                self._events.exception("node failed")
                raise
            finally:
                self._end_orphans()
                self._layout.supervisor_pid.unlink(missing_ok=True)
                self._events.info("node ended", member=self._identity.member)

    async def _attempt_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._end_orphans()
            if not await self._attempt(stop):
                await _wait_at_most(stop, RETRY_SECONDS)

    async def _attempt(self, stop: asyncio.Event) -> bool:
        """Run the parts until they are to stop; return False if they must be tried again later.

        A full disk is a reason to wait, not to end: nothing else would start the node again.
        """
        try:
            write_private(self._layout.supervisor_pid, str(os.getpid()).encode())
            async with self._reaper():
                put_in_place_at_start(self._layout)
                if not await self._recover(stop):
                    return False
                self._prepare()
                self._tell("start", None)
                await self._run_parts(stop)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            reason = f"failed: {error}; the node tries again"
            if reason != self._notes.get("start"):
                _say_on_stderr(f"vcha: the start {reason}")
            self._tell("start", reason)
            return False
        return True

    def _end_orphans(self) -> None:
        orphans = [process.pid for process in find_tree(self._layout.root)]
        if orphans:
            self._events.warning("ending leftover processes", pids=orphans)
            kill_tree(self._layout.root)

    @contextlib.asynccontextmanager
    async def _reaper(self) -> AsyncIterator[None]:
        """Run the reaper, which ends the parts if this process dies, for the length of a block."""
        log = RotatingLog(log_path(self._layout.logs, "reaper"))
        spec = reaper_part(self._layout, os.getpid(), self._environment)
        reaper = Part(spec, log, self._events, lambda: None)
        reaper.begin()
        try:
            yield
        finally:
            reaper.open_gate()
            await reaper.stop()

    async def _recover(self, stop: asyncio.Event) -> bool:
        """Process a pending recovery request before any part runs; return whether they may run."""
        try:
            request = load_request(self._layout)
        except msgspec.DecodeError as error:
            self._events.warning("recovery: the request is invalid", reason=str(error))
            set_unreadable_aside(self._layout)
            return True
        if request is None or self._rewrite is None:
            return True
        self._events.warning("recovery", wish=request.wish)
        recovery = Recovery(
            self._identity,
            self._layout,
            self._etcd_with,
            self._rewrite,
            tell=lambda text: self._tell("recovery", text),
            stop=stop,
        )
        outcome = await recovery.carry_out(request)
        self._events.warning("recovery finished", wish=request.wish, error=outcome.error)
        self._tell("recovery", f"failed: {outcome.error}" if outcome.error else None)
        self._identity = load_identity(self._layout.root)
        return not outcome.unfinished

    def _etcd_with(self, *flags: str) -> Part:
        specs = self._plan(self._identity, self._layout, self._engines, self._environment)
        etcd = next(spec for spec in specs if spec.name == "etcd")
        return self._part(dataclasses.replace(etcd, argv=(*etcd.argv, *flags)))

    def _prepare(self) -> None:
        if self._identity.holds_data:
            write_patroni_config(self._identity, self._layout, self._engines.postgres)
        specs = self._plan(self._identity, self._layout, self._engines, self._environment)
        parts: list[Part] = []
        # The disk may be full at any part's log; each attempt would leave those before it open.
        with contextlib.ExitStack() as opened:
            for spec in specs:
                parts.append(self._part(spec))
                opened.callback(parts[-1].close)
            opened.pop_all()
        self._parts = parts
        self._save()

    def _part(self, spec: PartSpec) -> Part:
        log = RotatingLog(log_path(self._layout.logs, spec.name))
        return Part(spec, log, self._events, self._save)

    async def _run_parts(self, stop: asyncio.Event) -> None:
        async with contextlib.AsyncExitStack() as stack:
            store = self._store()
            await stack.enter_async_context(store)
            control = Control(
                self._parts,
                lambda: self._take_base_backup(store, self._noted(_unpublished)),
                self._tell,
                self._show,
            )
            starting = asyncio.create_task(
                self._start_parts(stack, store, control), name="start of the parts"
            )
            view = NodeContext(
                self._identity, self._layout, self._engines, store, self._events, control
            )
            jobs = asyncio.create_task(run_jobs(view), name="background jobs")
            ends: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait(), name="stop")]
            if self._rewrite:
                asked = wait_for_request(self._layout)
                ends.append(asyncio.create_task(asked, name="recovery"))
            try:
                await asyncio.wait([starting, *ends], return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                ended, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in ended:
                    end.result()
            finally:
                await self._cancel(starting, *ends, jobs)
                await stop_all(self._parts)

    async def _cancel(self, *tasks: asyncio.Task[object]) -> None:
        """Cancel tasks and wait for their ends; log their errors: the parts must be stopped yet."""
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()):
                self._events.warning("failed", task=task.get_name(), reason=repr(error))

    def _store(self) -> Etcd | SealedEtcd:
        """Return the cluster's store; other members are tried first: ours may still be starting."""
        own, *others = known_endpoints(self._identity, self._layout)
        account = NodeAccount(self._layout.root)
        etcd = Etcd([*others, own], NodeTls(self._layout), account=account)
        return cluster_store(self._identity, self._layout, etcd)

    async def _start_parts(
        self, stack: contextlib.AsyncExitStack, store: Store, control: Control
    ) -> None:
        for part in self._parts:
            if not part.spec.late:
                part.begin()
        if not self._identity.holds_data or not await self._data_are_there(stack, store, control):
            return
        await wait_until_admitted(self._identity, self._layout, NodeTls(self._layout))
        for part in self._parts:
            part.open_gate()
            if part.spec.late:
                part.begin()
        control.ready.set()

    async def _data_are_there(
        self, stack: contextlib.AsyncExitStack, store: Store, control: Control
    ) -> bool:
        if list_old_data(self._layout):
            # The last run ended while it was replacing a stuck standby's data.
            if not has_data(self._layout):
                await base_backup_or_restore(self._layout, control.base_backup)
            return True
        if not self._identity.copy_from_leader:
            return True
        publisher = await stack.enter_async_context(
            BaseBackupPublisher(
                store,
                self._identity.member,
                self._events,
                on_written=completed_when_written(self._layout),
            )
        )
        return await first_base_backup(
            self._layout,
            self._noted(publisher.publish),
            lambda publish: self._take_base_backup(store, publish),
        )

    async def _take_base_backup(self, store: Store, publish: Publish) -> bool:
        log = RotatingLog(log_path(self._layout.logs, "copy"))
        try:
            return await self._base_backup(store, publish, log).run()
        finally:
            log.close()

    def _tell(self, job: str, text: str | None) -> None:
        """Set the note of a background job; log it if it is new."""
        if text == self._notes.get(job):
            return
        if text is None:
            del self._notes[job]
        else:
            self._notes[job] = text
            self._events.warning("background note", job=job, text=text)
        self._save()

    def _show(self, view: OwnView) -> None:
        """Set the node's view of the cluster; log a change of its contact."""
        before, self._view = self._view, view
        if before == view:
            return
        if before is None or before.contact is not view.contact:
            silent = list(view.waits_for)
            self._events.warning("contact", state=view.contact, role=view.role, silent=silent)
        self._save()

    def _base_backup(self, store: Store, publish: Publish, log: RotatingLog) -> BaseBackup:
        postgres = self._engines.postgres

        def secrets() -> Secrets:
            return load_secrets(self._layout.root)

        return BaseBackup(
            self._layout,
            postgres,
            secrets=secrets,
            find_leader=lambda: find_leader(store, self._layout, secrets(), postgres),
            publish=publish,
            log=log,
            events=self._events,
            environment=self._environment,
        )

    def _noted(self, tell: Publish) -> Publish:
        """Return a publisher of reports that also shows them in the node's status."""

        def publish(report: BaseBackupReport) -> None:
            self._base_backup_report = report
            self._save()
            tell(report)

        return publish

    def _save(self) -> None:
        status = NodeStatus(
            member=self._identity.member,
            kind=self._identity.kind,
            pid=os.getpid(),
            started=self._started,
            parts=tuple(part.status for part in self._parts),
            copy=self._base_backup_report,
            notes=dict(self._notes),
            view=self._view,
        )
        try:
            save_status(self._layout.root, status)
        except OSError as error:
            self._events.warning("cannot write the status", reason=str(error))


async def _wait_at_most(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _unpublished(_: BaseBackupReport) -> None:
    """Publish nothing: only a task that creates a node waits for the reports of its base backup."""


def _say_on_stderr(text: str) -> None:
    """Write a line where a service manager keeps it: neither log nor status may have space."""
    with contextlib.suppress(OSError):
        write_error(text)
