"""Another account of the machine, at a socket of a node's own programs. Only root can be it."""

import asyncio
import pwd
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ACCOUNT = pwd.getpwnam("nobody")
CALLER = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as caller:
    caller.settimeout(60)
    caller.connect(sys.argv[1])
    caller.sendall(b'{"serving":true,"failing":{"API: serving":"planted"}}\\n')
    print(caller.recv(1 << 20))
"""
IMPOSTOR = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as service:
    service.bind(sys.argv[1])
    service.listen()
    print("ready", flush=True)
    sys.stdin.read()
"""


async def assert_not_answered(place: Path) -> None:
    """Call from the account, even if the file's permissions forbid it; check that nothing comes."""
    await asyncio.to_thread(place.chmod, 0o777)
    caller = await _start(CALLER, place)
    out, errors = await caller.communicate()
    assert out.strip() == b"b''" or b"ConnectionResetError" in errors or b"BrokenPipe" in errors


@asynccontextmanager
async def impostor(place: Path) -> AsyncIterator[None]:
    """Let the account listen there, where it created the socket first, during a block."""
    process = await _start(IMPOSTOR, place)
    assert process.stdout
    assert await process.stdout.readline() == b"ready\n"
    try:
        yield
    finally:
        await process.communicate(b"")


async def _start(program: str, place: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(place), str(ACCOUNT.pw_uid)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
