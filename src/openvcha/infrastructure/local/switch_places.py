"""The places of the switch: who holds each, its highest token, and its listening socket.

Pure but for the listening sockets and the file of tokens: a place goes to whoever shows a token
that is not lower than every earlier one. The switch keeps the listening socket, so that a holder
that is frozen neither accepts connections nor keeps the next one from them.
"""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.infrastructure.local.switch_links import Link
from openvcha.infrastructure.local.switch_protocol import (
    Granted,
    Held,
    Place,
    Refused,
    Reply,
    Take,
    tokens_path,
)
from openvcha.system.files.durable import write_private
from openvcha.system.files.regular_files import read_regular

BACKLOG: Final = 1024
ACCEPTS_PER_TURN: Final = 64
PAUSE_SECONDS: Final = 0.05
"""Before the next attempt to accept a connection, or to pass one on."""
MAX_PLACES: Final = 16


class HighestTokens(msgspec.Struct, frozen=True):
    """The highest token of each place, by its name; what a switch must know after its crash."""

    tokens: dict[str, int] = {}


class TokenFile:
    """The highest tokens, below the root of an infrastructure.

    Each is written before its holder is told, but not synced: a crash of the machine ends all
    holders as well. A full disk does not keep an address from its holder.
    """

    def __init__(self, root: Path) -> None:
        self._path = tokens_path(root)
        self._tokens = self._load()

    def get(self, place: Place) -> int | None:
        """Return the highest token of a place; None if nobody has taken it yet."""
        return self._tokens.get(str(place))

    def note(self, place: Place, token: int) -> None:
        """Record a token that is the highest."""
        if self.get(place) != token:
            self._tokens[str(place)] = token
            self._save()

    def forget(self) -> None:
        """Forget all tokens."""
        self._tokens = {}
        self._save()

    @property
    def is_full(self) -> bool:
        """Return whether there are too many places for another one."""
        return len(self._tokens) >= MAX_PLACES

    def _load(self) -> dict[str, int]:
        try:
            return dict(msgspec.json.decode(read_regular(self._path), type=HighestTokens).tokens)
        except (OSError, msgspec.DecodeError):
            return {}

    def _save(self) -> None:
        with contextlib.suppress(OSError):
            write_private(self._path, msgspec.json.encode(HighestTokens(self._tokens)))


class HeldPlace:
    """One place with its holder, and the connections on their way to it."""

    def __init__(self, place: Place, link: Link) -> None:
        """Listen at a place for a holder. Raises OSError."""
        self.place = place
        self.link = link
        self._listener = _listen(place)
        self._waiting: socket.socket | None = None
        self._numbers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._watch()

    def give_to(self, link: Link) -> None:
        """Pass all further connections to another holder."""
        self.link = link

    def close(self) -> None:
        """Listen no more."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        if self._timer:
            self._timer.cancel()
        self._listener.close()
        if self._waiting:
            self._waiting.close()

    def _watch(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            for _ in range(ACCEPTS_PER_TURN):
                if self._waiting is None:
                    self._waiting = self._listener.accept()[0]
                self._numbers += 1
                self.link.pass_on(self._numbers, self._waiting)
                self._waiting = None
        except ConnectionAbortedError:
            return  # it has been reset in the backlog; the next ones are still readable
        except BlockingIOError:
            if self._waiting is not None:  # the holder does not receive it now
                self._pause()
        except OSError:  # no descriptors are left, or the holder has gone
            self._pause()

    def _pause(self) -> None:
        """Let connections wait in the backlog for a moment."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        self._timer = loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._watch()
        self._accept()


class Places:
    """All places of a switch."""

    def __init__(self, tokens: TokenFile) -> None:
        self._tokens = tokens
        self._held: dict[Place, HeldPlace] = {}

    def take(self, link: Link, wish: Take) -> Reply:
        """Give a place to a link, if its token is not lower than an earlier one; return the reply.

        The former holder learns that it has lost the place.
        """
        place, highest = wish.place, self._tokens.get(wish.place)
        if highest is None and self._tokens.is_full:
            return Refused(f"more than {MAX_PLACES} addresses are not supported")
        if highest is not None and wish.token < highest:
            return Refused(f"a leader with the later token {highest} has taken {place}")
        held = self._held.get(place)
        if held is None:
            try:
                held = self._held[place] = HeldPlace(place, link)
            except OSError as error:
                return Refused(f"cannot listen on {place}: {error.strerror}")
        self._tokens.note(place, wish.token)
        former = held.link
        link.granted = wish
        held.give_to(link)
        if former is not link:
            former.revoke()
        return Granted()

    def leave(self, link: Link) -> None:
        """Close the place of a link, unless another one has it; nobody accepts there any more."""
        place = link.granted.place if link.granted else None
        held = self._held.get(place) if place else None
        if held is not None and held.link is link:
            held.close()
            del self._held[held.place]

    def forget_tokens(self) -> None:
        """Forget all tokens: the next ones may be lower."""
        self._tokens.forget()

    @property
    def held(self) -> tuple[Held, ...]:
        """Return who holds what."""
        return tuple(
            Held(
                place=held.place,
                holder=held.link.granted.holder,
                token=held.link.granted.token,
                connections=held.link.connections,
            )
            for held in self._held.values()
            if held.link.granted
        )


def _listen(place: Place) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((place.address, place.port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


prepare(__name__)
