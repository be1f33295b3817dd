"""The agent of a host as a program."""

import subprocess
import sys
from pathlib import Path

import pytest

from openvcha.api.errors import ApiError
from openvcha.infrastructure.hosts import orders
from openvcha.infrastructure.hosts.orders import MAX_ORDER_BYTES


def agent(text: bytes) -> bytes:
    command = [sys.executable, "-P", "-m", "openvcha.daemon.host_agent"]
    done = subprocess.run(command, input=text, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_an_order_has_an_answer(tmp_path: Path) -> None:
    """The program ends with it."""
    order = orders.MeasureSpace(directories=(str(tmp_path),))
    found = orders.result_of(agent(orders.encode_order(order)), dict[str, orders.Space])
    assert found[str(tmp_path)].capacity > 0


def test_an_order_that_is_too_long_is_refused() -> None:
    """It is not read to its end."""
    with pytest.raises(ApiError):
        orders.result_of(agent(b'"' + b"x" * MAX_ORDER_BYTES + b'"'), None)
