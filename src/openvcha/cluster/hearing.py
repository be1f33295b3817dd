"""Listening to what the nodes tell of themselves, and comparing their clocks with one's own."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import structlog

from openvcha.cluster.observation import Heard
from openvcha.store import facts, keys
from openvcha.store.errors import Compacted, StoreError
from openvcha.store.facts import NodeFacts
from openvcha.store.protocol import Event, EventType, Store

RETRY_SECONDS = 1.0
SILENT_SECONDS = 60.0
"""Longer than a node takes to start, and than four of its reports in a row."""
SAMPLES = 3
"""A report that comes late makes a clock seem behind: of some, the one that came fastest counts."""

_log = structlog.get_logger(__name__)


@dataclass
class _Node:
    since: float
    facts: NodeFacts | None = None
    offsets: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))


class Hearing:
    """Follows the facts of all nodes while ``run`` runs; until then nothing is known.

    ``monotonic`` counts seconds, ``clock`` is this node's time, with which the others' is compared.
    """

    def __init__(
        self,
        store: Store,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._clock = clock
        self._nodes: dict[str, _Node] = {}
        self._listening = False

    async def run(self) -> None:
        """Listen until canceled."""
        while True:
            try:
                await self._listen()
            except (Compacted, StoreError) as error:
                _log.info("the nodes' facts cannot be followed", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    def of(self, member: str) -> Heard:
        """Tell what is known of a node. One that is asked for the first time is not silent yet."""
        now = self._monotonic()
        node = self._nodes.setdefault(keys.node_facts(member), _Node(now))
        known = node.facts if now - node.since <= SILENT_SECONDS else None
        silent = self._listening and known is None and now - node.since > SILENT_SECONDS
        if known is None or len(node.offsets) < SAMPLES:
            return Heard(known, None, silent)
        return Heard(known, max(node.offsets), silent)

    async def _listen(self) -> None:
        seen = await self._store.snapshot(keys.NODES)
        for kv in seen.items:
            self._note(kv.key, kv.value, fresh=False)
        self._listening = True
        async with aclosing(self._store.watch(keys.NODES, seen.revision + 1)) as changes:
            async for events in changes:
                for event in events:
                    self._take(event)

    def _take(self, event: Event) -> None:
        if event.type is EventType.PUT:
            self._note(event.kv.key, event.kv.value, fresh=True)
        elif node := self._nodes.get(event.kv.key):
            node.facts = None

    def _note(self, key: str, value: bytes, *, fresh: bool) -> None:
        """Take a report in; of one that was there already nobody knows how old it is."""
        if not key.endswith("/facts"):
            return
        try:
            told = facts.decode(value)
        except msgspec.DecodeError as error:
            _log.warning("a node's facts cannot be read", key=key, reason=str(error))
            return
        now = self._monotonic()
        node = self._nodes.setdefault(key, _Node(now))
        node.facts, node.since = told, now
        if fresh:
            node.offsets.append((told.clock - self._clock()).total_seconds())
