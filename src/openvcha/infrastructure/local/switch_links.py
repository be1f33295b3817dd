"""The switch's end of one holder: what it was granted, and its open connections.

Of each connection that it passes on, the switch keeps a descriptor, so that it can end the
connection of a holder that is frozen. It closes its own once both directions are shut down, which
epoll reports although it is asked for nothing: so data on a connection never wake the switch.
"""

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from openvcha.infrastructure.local.switch_protocol import Lost, Reply, Take, encode
from openvcha.system.network.passed_sockets import pass_socket

ANSWER_SECONDS: Final = 1.0
"""How soon a holder must answer that it has lost its place; a frozen one does not."""


@dataclass(eq=False)
class _Connection:
    """A connection that was passed on. ``process`` serves it; 0 is the holder itself."""

    number: int
    kept: socket.socket
    link: "Link"
    process: int = 0


class Endings:
    """Closes the switch's descriptor of each connection that has ended."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, _Connection] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._close_ended)

    def close(self) -> None:
        """Watch no more."""
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()

    def watch(self, connection: _Connection) -> None:
        """Watch for the end of a connection."""
        descriptor = connection.kept.fileno()
        self._by_descriptor[descriptor] = connection
        self._epoll.register(descriptor, select.EPOLLET)  # always reports EPOLLHUP too

    def forget(self, connection: _Connection) -> None:
        """Watch a connection no more."""
        descriptor = connection.kept.fileno()
        del self._by_descriptor[descriptor]
        self._epoll.unregister(descriptor)

    def _close_ended(self) -> None:
        for descriptor, events in self._epoll.poll(0):
            if events & select.EPOLLHUP and (ended := self._by_descriptor.get(descriptor)):
                ended.link.end(ended)


class Link:
    """A program that is connected to the switch; ``granted`` is what it has taken, if anything."""

    def __init__(
        self, channel: socket.socket, endings: Endings, on_closed: Callable[["Link"], None]
    ) -> None:
        """``on_closed`` is called once, when nothing is left of it."""
        self.channel = channel
        self.granted: Take | None = None
        self._endings = endings
        self._on_closed = on_closed
        self._connections: dict[int, _Connection] = {}
        self._ending = False
        self._answered = False
        self._timers: list[asyncio.TimerHandle] = []
        self._open = True

    @property
    def is_open(self) -> bool:
        """Return whether anything is left of it."""
        return self._open

    @property
    def connections(self) -> int:
        """Return the number of its open connections."""
        return len(self._connections)

    def reply(self, reply: Reply) -> None:
        """Send a reply; one that does not read its own is ended."""
        try:
            self.channel.send(encode(reply))
        except OSError:
            self.cut()

    def pass_on(self, number: int, accepted: socket.socket) -> None:
        """Pass a connection on, and keep a descriptor. Raises OSError if it is not possible now."""
        pass_socket(self.channel, str(number).encode(), accepted)
        connection = _Connection(number, accepted, self)
        self._connections[number] = connection
        self._endings.watch(connection)

    def assign(self, number: int, process: int) -> None:
        """Note which process serves a connection."""
        if connection := self._connections.get(number):
            connection.process = process

    def cut_process(self, process: int) -> None:
        """End the connections that a process serves."""
        for connection in list(self._connections.values()):
            if connection.process == process:
                self.end(connection)

    def cut_connection(self, number: int) -> None:
        """End a connection, if it is still open."""
        if connection := self._connections.get(number):
            self.end(connection)

    def revoke(self) -> None:
        """Tell the holder that it has lost its place; cut it off unless it answers in time."""
        if self._drain() <= 0:
            self.cut()
            return
        self.reply(Lost())
        if self._open:
            self._after(ANSWER_SECONDS, self._cut_unless_answered)

    def released(self) -> None:
        """Let a holder that has given its place up end its connections itself, in time."""
        self._answered = self._ending = True
        self._after(self._drain(), self.cut)
        self._close_if_done()

    def cut(self) -> None:
        """End all connections and the link."""
        self._ending = True
        for connection in list(self._connections.values()):
            self.end(connection)
        self._close_if_done()

    def end(self, connection: _Connection) -> None:
        """End a connection in both directions, whatever its holder does."""
        self._endings.forget(connection)
        del self._connections[connection.number]
        with contextlib.suppress(OSError):
            connection.kept.shutdown(socket.SHUT_RDWR)
        connection.kept.close()
        self._close_if_done()

    def _drain(self) -> float:
        return self.granted.drain if self.granted else 0.0

    def _cut_unless_answered(self) -> None:
        if not self._answered:
            self.cut()

    def _after(self, seconds: float, work: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, work))

    def _close_if_done(self) -> None:
        if not self._open or not self._ending or self._connections:
            return
        self._open = False
        for timer in self._timers:
            timer.cancel()
        asyncio.get_running_loop().remove_reader(self.channel)
        self.channel.close()
        self._on_closed(self)
