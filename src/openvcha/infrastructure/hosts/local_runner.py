"""Running commands on this machine, as on a host."""

import asyncio

from openvcha.infrastructure.hosts.commands import HostUnreachable, Outcome

SECONDS = 30.0


async def run_here(command: str, *, stdin: bytes = b"", seconds: float | None = None) -> Outcome:
    """Run a shell command. Raises HostUnreachable if it does not end in time."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    limit = SECONDS if seconds is None else seconds
    try:
        async with asyncio.timeout(limit):
            output, errors = await process.communicate(stdin)
    except TimeoutError as error:
        raise HostUnreachable(f"a command has not ended within {limit:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Outcome(
        process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace")
    )
