"""The demo: destroy the passive under constant writes, redeploy it, and check the rows."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from openvcha.api.structures import ClusterState
from openvcha.client.errors import CommandError
from openvcha.client.narrator import Narrator
from openvcha.client.operations import choose_folder, choose_name, redeploy, redeploy_path
from openvcha.client.rest_client import ApiClient
from openvcha.client.tasks import follow_to_success
from openvcha.lab.access import authenticated_client, database
from openvcha.lab.deploy import cluster
from openvcha.lab.power import destroy
from openvcha.lab.roles import PASSIVE
from openvcha.lab.state import Lab
from openvcha.lab.writer import RowLedger, Writer

DEGRADED_SECONDS = 30.0
HEALTHY_SECONDS = 60.0
WRITE_SECONDS = 30.0
POLL_SECONDS = 0.05
FIRST_ROWS = 50
LAST_ROWS = 50
NODES = ("node1", "node2", "witness")


@dataclass
class DemoResult:
    """The result of a demo; ``steps`` are names and seconds."""

    steps: list[tuple[str, float]] = field(default_factory=list)
    ledger: RowLedger = field(default_factory=RowLedger)
    missing: set[int] = field(default_factory=set)
    table: str = ""


async def run_demo(lab: Lab, narrator: Narrator, filling: int, environment: str) -> DemoResult:
    """Run the demo on a running lab; ``filling`` is how many bytes of data to copy.

    ``environment`` is the command that sets the variables of the curl command it shows.
    Raises CommandError, RequestRefused, ServerUnreachable, ApiError.
    """
    async with authenticated_client(lab) as api:
        play_ = _Demo(lab, api, narrator, environment)
        try:
            await play_.run(filling)
        except psycopg.Error as error:
            raise CommandError(f"PostgreSQL at {lab.state().public_address}: {error}") from error
        return play_.report


class _Demo:
    """The demo's steps, in order."""

    def __init__(self, lab: Lab, api: ApiClient, narrator: Narrator, environment: str) -> None:
        self._lab = lab
        self._api = api
        self._narrator = narrator
        self._environment = environment
        self._clock = asyncio.get_running_loop().time
        self.report = DemoResult(table=f"demo_{secrets.token_hex(4)}")

    async def run(self, filling: int) -> None:
        lost = await self._introduce()
        writer = Writer(await database(self._lab), self.report.table)
        self.report.ledger = writer.ledger
        await self._prepare(writer, filling)
        async with _writing(writer):
            with self._step("Writing rows through the public address", "first rows"):
                await self._rows(writer, FIRST_ROWS)
            if not lost:
                await self._lose_passive()
            await self._degraded()
            await self._redeploy()
            with self._step("Writing some more rows, with the new passive", "last rows"):
                await self._rows(writer, len(writer.ledger.acknowledged) + LAST_ROWS)
        with self._step("Counting the rows", "count"):
            self.report.missing = await writer.missing()
        if not self.report.missing:
            await writer.clean_up()

    async def _introduce(self) -> bool:
        """Show the roles; return whether the passive is already lost. Raises CommandError."""
        info = await cluster(self._api)
        names = {_role(info[key]): _name(info[key]) for key in NODES if key in info}
        lost = names.get("PASSIVE") is None
        if None in (names.get("ACTIVE"), names.get("WITNESS")) or not (lost or _is_healthy(info)):
            reasons = " ".join(_reasons(info))
            raise CommandError(f"the cluster is {info['health_state']}: {reasons}")
        say = self._narrator.say
        say(
            f"The active {names['ACTIVE']} accepts the writes. The witness {names['WITNESS']}"
            " votes."
        )
        if lost:
            say("The passive was already lost, so the demo starts there.")
        else:
            say(f"The passive {names['PASSIVE']} has a copy of each acknowledged row.")
        say("A client keeps writing while the API creates a new passive.")
        say()
        return lost

    async def _prepare(self, writer: Writer, filling: int) -> None:
        words = f" with {filling // 1_000_000} MB of data" if filling else ""
        with self._step(f"Creating a table{words}", "table"):
            await writer.prepare(filling)

    async def _rows(self, writer: Writer, wanted: int) -> None:
        async def enough() -> bool:
            return len(writer.ledger.acknowledged) >= wanted

        last = writer.ledger.last_error
        await self._until(enough, WRITE_SECONDS, f"the writer is stuck {last}".rstrip())

    async def _lose_passive(self) -> None:
        with self._step("Destroying the passive: its processes and its data", "destroy"):
            await destroy(self._lab, PASSIVE)

    async def _degraded(self) -> None:
        async def unwell() -> bool:
            return not await self._healthy()

        with self._step("Waiting for the cluster to notice", "noticed"):
            await self._until(unwell, DEGRADED_SECONDS, "the cluster did not notice the loss")
        info = await cluster(self._api, partial=True)
        self._narrator.say()
        self._narrator.say(f"The cluster is {info['health_state']}, because:")
        for reason in _reasons(info):
            self._narrator.say(f"  {reason}")

    async def _redeploy(self) -> None:
        folder = await choose_folder(self._api)
        spec = {"placement": {"name": await choose_name(self._api), "folder": folder}}
        say = self._narrator.say
        say()
        say("The active continues alone. This call creates a new passive:")
        self._narrator.code(f"  {self._environment}\n{_curl(spec)}")
        say()
        with self._step("Redeploying the passive", "redeploy"):
            task = await redeploy(self._api, PASSIVE, spec)
            await follow_to_success(self._api, task, self._narrator)
        with self._step("Waiting for the cluster to be HEALTHY", "healthy"):
            await self._until(self._healthy, HEALTHY_SECONDS, "the cluster did not become HEALTHY")

    async def _healthy(self) -> bool:
        return _is_healthy(await cluster(self._api, partial=True))

    async def _until(
        self, condition: Callable[[], Awaitable[bool]], seconds: float, otherwise: str
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not await condition():  # noqa: ASYNC110 - no Event comes over REST
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise CommandError(f"{otherwise} within {seconds:g} s") from None

    @contextmanager
    def _step(self, text: str, name: str) -> Iterator[None]:
        began = self._clock()
        with self._narrator.step(text):
            yield
        self.report.steps.append((name, self._clock() - began))


@asynccontextmanager
async def _writing(writer: Writer) -> AsyncIterator[None]:
    """Run the writer during a block; at the end, wait for its last row."""
    stop = asyncio.Event()
    writing = asyncio.create_task(writer.run(stop), name="writer")
    try:
        yield
        stop.set()
        await writing
    finally:
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing


def _is_healthy(info: dict[str, Any]) -> bool:
    return bool(info["health_state"] == ClusterState.HEALTHY)


def _role(node: dict[str, Any]) -> str:
    return str(node.get("runtime", {}).get("role"))


def _name(node: dict[str, Any]) -> str | None:
    placement = node.get("runtime", {}).get("placement") or {}
    return placement.get("vm_name")


def _reasons(info: dict[str, Any]) -> list[str]:
    return [warning["error"]["default_message"] for warning in info.get("health_warnings", [])]


def _curl(spec: dict[str, Any]) -> str:
    return (
        '  curl --cacert "$CA" -u "$VCHA_USER:$PASSWORD" -H "Content-Type: application/json" \\\n'
        f'    -X POST "$API/api{redeploy_path(PASSIVE)}" \\\n'
        f"    -d '{json.dumps(spec)}'"
    )
