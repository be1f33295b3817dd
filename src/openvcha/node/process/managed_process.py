"""A part of a node: a program that is kept running."""

import asyncio
import contextlib
import dataclasses
import io
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import groupby

from openvcha.node.process import supervisor_watch
from openvcha.node.process.backoff import Backoff
from openvcha.node.process.gate import GO
from openvcha.node.process.heartbeat import (
    BEAT,
    HangDetector,
    ThreadState,
    read_thread_state,
    wait_until_hung,
)
from openvcha.node.process.logs import Logger, RotatingLog, wrap
from openvcha.node.process.spawn import Launch, Running, describe_exit, launch
from openvcha.node.process.status import PartState, PartStatus
from openvcha.node.process.supervised_loop import run_forever


@dataclasses.dataclass(frozen=True)
class PartSpec:
    """The specification of a part. `stop_seconds` is how long it may take to exit after SIGTERM.

    A `gated` part loads at once but starts to work at a byte on its standard input (GO), which it
    gets once etcd responds and the data exist.
    A `late` part is not even loaded before that: it would compete with the base backup for the CPU.
    Lines that contain a text in `noise` are not logged.
    A part that `beats` sends heartbeats, and is killed and restarted if it hangs.
    A part that `watches` gets heartbeats of this program on its standard input, until GO.
    Parts of one `group` are stopped at the same time.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    noise: tuple[bytes, ...] = ()
    stop_seconds: float = 10.0
    gated: bool = False
    late: bool = False
    beats: bool = False
    watches: bool = False
    group: str = ""


class Part:
    """A program that is restarted until it is stopped."""

    def __init__(
        self,
        spec: PartSpec,
        log: RotatingLog,
        events: Logger,
        changed: Callable[[], None],
        *,
        start: Launch = launch,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        backoff: Backoff | None = None,
        read_state: Callable[[int], ThreadState | None] = read_thread_state,
    ) -> None:
        self.spec = spec
        self._log = log
        self._events = events
        self._changed = changed
        self._start = start
        self._clock = clock
        self._sleep = sleep
        self._backoff = backoff or Backoff()
        self._read_state = read_state
        self._hang_detector = HangDetector()
        self._running: Running | None = None
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._gate = asyncio.Event()
        self.status = PartStatus(name=spec.name, state=PartState.WAITING)

    @property
    def group(self) -> str:
        """Return the group of parts that are stopped at the same time."""
        return self.spec.group or self.spec.name

    def begin(self) -> None:
        """Start the program, and keep it running."""
        self._stopping = False
        self._task = asyncio.create_task(self._keep(), name=f"part {self.spec.name}")

    def open_gate(self) -> None:
        """Open the gate of a part, now and after every restart, so that it starts to work."""
        self._gate.set()

    def signal(self, number: signal.Signals) -> None:
        """Signal the program if it runs; otherwise it will read its files when it starts."""
        if self._running:
            self._running.send(number)

    async def stop(self) -> None:
        """Stop the program for good, as `halt` does."""
        await self.halt()
        self.close()

    def close(self) -> None:
        """Close the log of a program that has ended for good, or never begun."""
        self._log.close()

    async def halt(self) -> None:
        """Stop the program: SIGTERM, then SIGKILL at the deadline; return when it has exited."""
        self._stopping = True
        task, running = self._task, self._running
        if task is None:
            return
        if running is None:
            task.cancel()
        else:
            running.send(signal.SIGTERM)
        _, pending = await asyncio.wait([task], timeout=self.spec.stop_seconds)
        if pending and running:
            self._events.warning("did not stop; killed", program=self.spec.name)
            running.send(signal.SIGKILL)
        await asyncio.wait([task])
        self._task = None
        self._set(PartState.STOPPED)

    async def _keep(self) -> None:
        while not self._stopping:
            began = self._clock()
            reason = await self._run_and_tell()
            if self._stopping:
                self._events.info("stopped", program=self.spec.name, reason=reason)
                return
            pause = self._backoff.pause(self._clock() - began)
            self._events.warning("ended", program=self.spec.name, reason=reason, pause=pause)
            self.status = _after_exit(self.status, reason)
            self._set(PartState.BACKING_OFF)
            await self._sleep(pause)

    async def _run_and_tell(self) -> str:
        """Run it once and return why it ended, even by an internal error: it must be restarted."""
        try:
            return await self._run_once()
        except Exception as error:  # noqa: BLE001 - a node must not lose a part because of it
            self._events.exception("cannot supervise a part", program=self.spec.name)
            if self._running:
                self._running.send(signal.SIGKILL)
            return f"could not be supervised: {error}"
        finally:
            self._running = None

    async def _run_once(self) -> str:
        if not self.spec.gated:
            return await self._run_with(asyncio.subprocess.DEVNULL, None)
        read_end, write_end = os.pipe()
        with os.fdopen(read_end, "rb", 0) as stdin, os.fdopen(write_end, "wb", 0) as gate:
            return await self._run_with(stdin.fileno(), gate)

    async def _run_with(self, stdin: int, gate: io.FileIO | None) -> str:
        try:
            running = await self._start(self.spec.argv, self.spec.environment, self._line, stdin)
        except OSError as error:
            return f"cannot be started: {error}"
        self._running = running
        self._events.info("started", program=self.spec.name, pid=running.pid)
        opening = asyncio.create_task(self._open(gate), name=f"gate of {self.spec.name}")
        watching = self._watching(running)
        self._set(self._state(), running.pid)
        if self._stopping:
            running.send(signal.SIGTERM)
        try:
            return describe_exit(await running.wait())
        finally:
            for task in (opening, *watching):
                task.cancel()

    def _watching(self, running: Running) -> list[asyncio.Task[None]]:
        if not self.spec.beats:
            return []
        name, watch = f"pulse of {self.spec.name}", partial(self._end_when_it_hangs, running)
        return [asyncio.create_task(run_forever(name, watch, self._events), name=name)]

    async def _end_when_it_hangs(self, running: Running) -> None:
        while True:
            self._hang_detector = HangDetector()  # a program without heartbeats never hangs
            await wait_until_hung(
                self._hang_detector, partial(self._read_state, running.pid), self._sleep
            )
            self._events.error("hung; killed", program=self.spec.name, pid=running.pid)
            running.send(signal.SIGKILL)

    async def _open(self, gate: io.FileIO | None) -> None:
        """Write GO when it is time, and close the pipe so that the program reads end of file."""
        if gate is None:
            return
        if self.spec.watches:
            await self._beat(gate)
        await self._gate.wait()
        with contextlib.suppress(BrokenPipeError):
            gate.write(GO)
        gate.close()
        self._set(self._state(), self.status.pid)

    async def _beat(self, gate: io.FileIO) -> None:
        """Send heartbeats until the gate opens; never wait for the reader."""
        os.set_blocking(gate.fileno(), False)
        while not self._gate.is_set():
            with contextlib.suppress(BrokenPipeError):
                gate.write(supervisor_watch.BEAT)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gate.wait(), supervisor_watch.BEAT_SECONDS)

    def _state(self) -> PartState:
        waits = self.spec.gated and not self._gate.is_set()
        return PartState.WAITING if waits else PartState.RUNNING

    def _line(self, line: bytes) -> None:
        if self.spec.beats and line == BEAT:
            self._hang_detector.beat()
        elif not any(noise in line for noise in self.spec.noise):
            self._log.write(wrap(self.spec.name, line))

    def _set(self, state: PartState, pid: int | None = None) -> None:
        self.status = PartStatus(
            name=self.spec.name,
            state=state,
            pid=pid,
            restarts=self.status.restarts,
            last_exit=self.status.last_exit,
        )
        self._changed()


async def stop_all(parts: Sequence[Part]) -> None:
    """Stop parts for good, the last one first, and those of one group at the same time."""
    for _, group in groupby(reversed(parts), lambda part: part.group):
        await asyncio.gather(*(part.stop() for part in group))


def _after_exit(status: PartStatus, reason: str) -> PartStatus:
    """Return the status after the program has exited once more."""
    return PartStatus(
        name=status.name, state=status.state, restarts=status.restarts + 1, last_exit=reason
    )
