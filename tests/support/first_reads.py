"""Several threads that decode one structure, each time one that was never decoded before.

Usage: first_reads.py ROUNDS [unprepared]. With the second word, structures are not prepared when
their module is imported: then msgspec crashes the process with SIGSEGV sooner or later.
"""

import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType

import msgspec

from openvcha.api import prepared
from openvcha.node.process import status

THREADS = 6
TEXT = msgspec.json.encode(
    status.NodeStatus(
        member="a",
        kind="data",
        pid=1,
        started=1,
        parts=(status.PartStatus(name="etcd", state=status.PartState.RUNNING, pid=2),),
        view=status.OwnView(
            role=status.LocalRole.ACTIVE,
            contact=status.Contact.CONNECTED,
            since="2026-11-26T18:00:00Z",
        ),
    )
)


def fresh(number: int) -> ModuleType:
    """Import the module of a node's status again, which gives it new structures."""
    name = f"{status.__name__}_{number}"
    spec = importlib.util.spec_from_file_location(name, Path(status.__file__))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    del sys.modules[name]
    return module


def read_at_once(type_: type[msgspec.Struct]) -> None:
    """Decode it for the first time in all threads at the same moment."""
    together = threading.Barrier(THREADS)

    def read() -> None:
        together.wait()
        for _ in range(2):
            known = msgspec.json.decode(TEXT, type=type_)
            msgspec.convert(msgspec.to_builtins(known), type_)

    threads = [threading.Thread(target=read) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def unready(module: str) -> None:
    """Leave a module's structures unprepared."""


def main(rounds: int, *words: str) -> None:
    """Repeat it, with threads that switch as often as possible."""
    sys.setswitchinterval(1e-6)
    if "unprepared" in words:
        prepared.prepare = unready
    for number in range(rounds):
        read_at_once(fresh(number).NodeStatus)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
