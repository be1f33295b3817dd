"""`vcha node service`: the part of a data node that serves the API while the node leads."""

import asyncio
import logging
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from openvcha.node.heartbeat import beat_always
from openvcha.node.identity import absolute
from openvcha.node.inheritance import put_in_order
from openvcha.node.logs import Output
from openvcha.node.privileges import give_up_root, own_command_line
from openvcha.node.supervised import for_ever
from openvcha.serving.compose import serve
from openvcha.store.structured import structlog

Directory = Annotated[
    Path, typer.Argument(help="The node's directory.", exists=True, file_okay=False)
]


def service(directory: Directory) -> None:
    """Serve the API while this node is the active one (the supervisor starts this)."""
    give_up_root(own_command_line(), directory)
    directory = absolute(directory)
    put_in_order()
    _log_as_json()
    asyncio.run(_until_told(directory))


async def _until_told(directory: Path) -> None:
    serving = asyncio.create_task(serve(directory), name="service")
    beat, log = partial(beat_always, sys.stdout.fileno()), structlog.get_logger("heartbeat")
    beating = asyncio.create_task(for_ever("heartbeat", beat, log), name="heartbeat")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        return
    finally:
        beating.cancel()


def _log_as_json() -> None:
    """Write one JSON object a line; the supervisor puts the lines into the part's file."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: Output(sys.stdout),
    )
