"""The switch of the loopback lab: a process that owns the lab's public address.

On one machine a frozen active keeps its listening sockets, and the address could not move. So the
switch listens and passes each connection on to the holder: the program that showed the highest
token, the revision of the leader key. It knows no secret, and decides by the token alone.

There is one for each root of an infrastructure, started by whoever needs it. It ends when asked to,
or when nobody has needed it for a minute; it finds the tokens of a former one in a file.
"""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from openvcha.api.foreign_text import printable
from openvcha.infrastructure.local.switch_links import Endings, Link
from openvcha.infrastructure.local.switch_places import Places, TokenFile
from openvcha.infrastructure.local.switch_protocol import (
    Assign,
    CutConnection,
    CutProcess,
    Done,
    Forget,
    Granted,
    Quit,
    Refused,
    Release,
    Reply,
    Request,
    Show,
    Shown,
    Take,
    decode_request,
    lock_path,
    socket_path,
)
from openvcha.system.files.locks import try_lock
from openvcha.system.network.private_sockets import UntrustedPeerError, listen, require_own_user

MAX_LINKS: Final = 64
MAX_PACKET_BYTES: Final = 4096
PACKETS_PER_TURN: Final = 64
IDLE_SECONDS: Final = 60.0
MAX_LOG_BYTES: Final = 1 << 20


class Switch:
    """The switch, which serves the links that a listening socket accepts until it is asked to end.

    ``idle`` is for how many seconds it stays without any link.
    """

    def __init__(self, listener: socket.socket, tokens: TokenFile, idle: float) -> None:
        self._listener = listener
        self._places = Places(tokens)
        self._idle_seconds = idle
        self._endings = Endings()
        self._links: set[Link] = set()
        self._idle: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Serve until the end."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._listener, self._accept)
        self._note_idleness()
        try:
            await self.ended.wait()
        finally:
            loop.remove_reader(self._listener)
            for link in list(self._links):
                link.cut()
            self._endings.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            channel, _ = self._listener.accept()
            try:
                require_own_user(channel)
            except UntrustedPeerError as error:
                _say(f"refused a program: {error}")
                channel.close()
                return
            if len(self._links) >= MAX_LINKS:
                channel.close()
                return
            channel.setblocking(False)
            link = Link(channel, self._endings, self._on_closed)
            self._links.add(link)
            asyncio.get_running_loop().add_reader(channel, self._hear, link)
            self._note_idleness()

    def _hear(self, link: Link) -> None:
        for _ in range(PACKETS_PER_TURN):
            if not link.is_open:
                return
            try:
                packet = link.channel.recv(MAX_PACKET_BYTES)
                if not packet:  # its program has ended
                    link.cut()
                    return
                self._obey(link, decode_request(packet))
            except BlockingIOError:
                return
            except (OSError, msgspec.DecodeError) as error:
                _say(f"cannot understand a program: {error}")
                link.cut()
                return

    def _obey(self, link: Link, request: Request) -> None:
        match request:
            case Take():
                self._take(link, request)
            case Release():
                self._places.leave(link)
                link.released()
            case Assign():
                link.assign(request.connection, request.process)
            case CutProcess():
                link.cut_process(request.process)
            case CutConnection():
                link.cut_connection(request.connection)
            case Show():
                link.reply(Shown(self._places.held))
            case Forget():
                self._places.forget_tokens()
                link.reply(Done())
            case Quit():
                self.ended.set()

    def _take(self, link: Link, wish: Take) -> None:
        reply: Reply = Refused("this program has taken a place already")
        if link.granted is None:
            reply = self._places.take(link, wish)
        if isinstance(reply, Granted):  # whoever is refused tries again and again
            _say(f"{wish.holder} takes {wish.place} with token {wish.token}")
        # Connections follow in a later turn of the loop: the reply is the first packet.
        link.reply(reply)

    def _on_closed(self, link: Link) -> None:
        self._places.leave(link)
        self._links.discard(link)
        self._note_idleness()

    def _note_idleness(self) -> None:
        """End in a while unless a program connects before."""
        if self._idle:
            self._idle.cancel()
            self._idle = None
        if not self._links:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._idle_seconds, self.ended.set)


async def run(root: Path, idle: float = IDLE_SECONDS) -> None:
    """Run the switch of an infrastructure's root until its end, unless there is one already."""
    lock = try_lock(lock_path(root))
    if lock is None:
        return
    try:
        with listen(socket_path(root), socket.SOCK_SEQPACKET) as listener:
            switch = Switch(listener, TokenFile(root), idle)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, switch.ended.set)
            await switch.run()
    finally:
        os.close(lock)


def _say(text: str) -> None:
    """Log a line; the log is begun anew when it is large."""
    output = sys.stderr.fileno()
    if os.fstat(output).st_size > MAX_LOG_BYTES:
        os.ftruncate(output, 0)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    os.write(output, f"{now} {printable(text)}\n".encode())


def main() -> None:
    """Run the switch for the root that the command line names."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(run(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
