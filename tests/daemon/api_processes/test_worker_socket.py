"""A worker of the API registers at once, or learns why it cannot; its loop never waits."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from openvcha.daemon.api_processes.worker_socket import read_number, register

UNAVAILABLE = "the API's distributor at .*/connections.sock does not accept workers yet"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "connections.sock"


@pytest.fixture
def listener(path: Path) -> Iterator[socket.socket]:
    """Return a listener that lets one worker wait and accepts none."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen(0)
        yield made


def test_it_sends_its_number(path: Path, listener: socket.socket) -> None:
    """Before the distributor has accepted it."""
    with register(path, 7) as channel:
        assert not channel.getblocking()
        accepted, _ = listener.accept()
        with accepted:
            assert read_number(accepted) == 7


def test_a_distributor_that_is_not_up_is_the_reason(path: Path) -> None:
    """The log shows it as what the worker waits for."""
    with pytest.raises(OSError, match=f"^{UNAVAILABLE}: No such file or directory$"):
        register(path, 1)


def test_a_full_backlog_is_refused_at_once(path: Path, listener: socket.socket) -> None:
    """The loop serves other clients; the worker tries again soon."""
    with register(path, 1), pytest.raises(OSError, match=UNAVAILABLE) as refused:
        register(path, 2)
    assert isinstance(refused.value.__cause__, BlockingIOError)
    assert listener.fileno() >= 0
