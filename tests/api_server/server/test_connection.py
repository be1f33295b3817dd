"""What one connection costs before anybody knows whose it is."""

import re

import h11
import pytest

from openvcha.api_server.server import connection
from openvcha.api_server.server.connection import MAX_HEADERS, _Http

MAX_HEAD_BYTES = 32 * 1024
START = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class CountingPattern:
    """A pattern that counts the bytes that it has searched."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern = pattern
        self.searched = 0

    def search(self, data: bytes, start: int = 0, end: int | None = None) -> object:
        end = len(data) if end is None else end
        self.searched += end - start
        return self.pattern.search(data, start, end)


def events_of(data: bytes, pieces: int = 1) -> list[object]:
    """Return the events of received data, ``pieces`` bytes at a time."""
    http, events = _Http(MAX_HEAD_BYTES), []
    for at in range(0, len(data), pieces):
        http.receive_data(data[at : at + pieces])
        while (event := http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            events.append(event)
    return events


@pytest.mark.parametrize("name", ["_END_OF_HEAD", "_FOLDED_LINE"])
def test_a_head_in_small_pieces_is_scanned_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Otherwise one stranger who sends byte by byte occupies the loop for seconds."""
    counting = CountingPattern(getattr(connection, name))
    monkeypatch.setattr(connection, name, counting)
    head = START + b"x: " + b"a" * 8000 + b"\r\n\r\n"
    assert [type(event) for event in events_of(head, 1)] == [h11.Request, h11.EndOfMessage]
    assert counting.searched < 4 * len(head)


@pytest.mark.parametrize("pieces", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (START + b"a: b\n\r\n", "ambiguous"),
        (START + b"a: b\r\n\n", "ambiguous"),
        (START + b"a: b\r\n c\r\n\r\n", "ambiguous"),
        (START + b"a:\r\n" * MAX_HEADERS + b"\r\n", "too many headers"),
    ],
)
def test_a_head_is_refused_in_whatever_pieces_it_arrives(
    head: bytes, reason: str, pieces: int
) -> None:
    """A scan that begins where the last one ended must not miss what lies across."""
    with pytest.raises(h11.RemoteProtocolError, match=reason):
        events_of(head, pieces)


@pytest.mark.parametrize("pieces", [1, 2, 3, 1000])
def test_each_head_of_a_connection_is_counted_for_itself(pieces: int) -> None:
    """A client reuses its connection for as many requests as it likes."""
    http, heads = _Http(MAX_HEAD_BYTES), 0
    request = START + b"a:\r\n" * (MAX_HEADERS - 1) + b"\r\n"
    data = request * 3
    for at in range(0, len(data), pieces):
        http.receive_data(data[at : at + pieces])
        while (event := http.next_event()) is not h11.NEED_DATA:
            heads += isinstance(event, h11.Request)
            if http.their_state is h11.DONE:
                http.send(h11.Response(status_code=204, headers=[]))
                http.send(h11.EndOfMessage())
                http.start_next_cycle()
    assert heads == 3


@pytest.mark.parametrize("pieces", [1, 2, 3, 1000])
def test_headers_after_a_body_are_refused(pieces: int) -> None:
    """They would escape the limit of the head's: h11 parses any number of them at once."""
    whole = CHUNKED + b"3\r\nabc\r\n0\r\n"
    with pytest.raises(h11.RemoteProtocolError, match="headers follow"):
        events_of(whole + b"a:\r\n\r\n", pieces)
    body = b"".join(e.data for e in events_of(whole + b"\r\n", pieces) if isinstance(e, h11.Data))
    assert body == b"abc"
    assert isinstance(events_of(whole + b"\r\n", pieces)[-1], h11.EndOfMessage)
