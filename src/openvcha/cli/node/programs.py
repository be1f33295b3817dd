"""`vcha node service`, `vcha node api` and `vcha node address`: our own programs on a data node."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from openvcha.cli.exit_codes import Code
from openvcha.cli.output.logs import print_python_errors
from openvcha.cli.output.plain import say
from openvcha.node.identity import MAX_API_WORKERS, absolute
from openvcha.node.process.handover import require_node
from openvcha.node.process.heartbeat import beat_forever
from openvcha.node.process.inheritance import reset_inherited_state
from openvcha.node.process.logs import Output
from openvcha.node.process.supervised_loop import run_forever
from openvcha.system.accounts.privileges import drop_root, own_command_line
from openvcha.system.structlog_light import structlog

Directory = Annotated[
    Path, typer.Argument(help="The node's directory.", exists=True, file_okay=False)
]


API_NICENESS = 2
"""The API yields to the database, the store and the service, however much work it gets."""


Workers = Annotated[
    int, typer.Option(min=1, max=MAX_API_WORKERS, help="The number of API workers.")
]
Worker = Annotated[
    int, typer.Option(min=0, max=MAX_API_WORKERS, help="The number of this worker, from 1.")
]


def service(directory: Directory, *, workers: Workers = 1) -> None:
    """Hold the public address and run tasks on the active node (the supervisor starts this)."""
    directory = _begin(directory)
    # Each of the two is a large program.
    from openvcha.daemon.service import serve  # noqa: PLC0415

    asyncio.run(_run_until_signal(serve(directory, workers)))


def api(directory: Directory, *, workers: Workers = 1, worker: Worker = 0) -> None:
    """Serve the API while this node is the active one (the supervisor starts this).

    Of several workers, each serves a part of the clients, and worker 0 distributes them.
    """
    directory = _begin(directory)
    os.nice(API_NICENESS)
    asyncio.run(_run_until_signal(_api(directory, worker, workers)))


def address(
    config: Annotated[Path, typer.Argument(help="The helper's configuration, written by root.")],
) -> None:
    """Hold the public address on an interface (root's service manager starts this)."""
    # It loads what no other command needs.
    from openvcha.node.address.interface import helper  # noqa: PLC0415

    try:
        helper.run(config)
    except helper.ERRORS as error:
        say(f"vcha: cannot hold the public address: {error}", err=True)
        raise typer.Exit(Code.FAILED) from error


def _api(directory: Path, worker: int, workers: int) -> Coroutine[None, None, None]:
    if workers > 1 and not worker:
        from openvcha.daemon.api_processes.distributor import distribute  # noqa: PLC0415

        return distribute(directory, workers)
    from openvcha.daemon.api_processes.process import ApiWorker, serve_api  # noqa: PLC0415

    return serve_api(directory, ApiWorker(worker, workers))


def _begin(directory: Path) -> Path:
    """Set up a part of the node that the supervisor starts; return the real directory."""
    drop_root(own_command_line(), directory, require_node)
    directory = absolute(directory)
    reset_inherited_state()
    _log_as_json()
    return directory


async def _run_until_signal(work: Coroutine[None, None, None]) -> None:
    serving = asyncio.create_task(work, name="part of the node")
    beat, log = partial(beat_forever, sys.stdout.fileno()), structlog.get_logger("heartbeat")
    beating = asyncio.create_task(run_forever("heartbeat", beat, log), name="heartbeat")
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
    """Log one JSON object per line; the supervisor writes the lines to the part's file."""
    print_python_errors(tracebacks=True)
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
