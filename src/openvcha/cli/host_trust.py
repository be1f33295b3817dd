"""Which key proves that a host is the one that is meant: a known, a given or a confirmed one."""

import sys
from pathlib import Path

from openvcha.cli.output.plain import confirm, say
from openvcha.client.errors import CommandError
from openvcha.infrastructure.hosts.address import SSH_PORT, HostAddress
from openvcha.infrastructure.hosts.host_key import fingerprint
from openvcha.infrastructure.hosts.ssh import SshHost, known_keys, offered_key


async def trusted_host(address: HostAddress, accept: str | None, known: Path) -> SshHost:
    """Return a host with its keys; ``accept`` is the fingerprint of the only one that counts.

    A person is asked at a terminal, and the answer is remembered in the file ``known``. Raises
    CommandError, HostUnreachable, UnusableKey.
    """
    if not accept and (keys := known_keys(known, address)):
        return SshHost(address, keys)
    offered = await offered_key(address)
    shown = fingerprint(offered)
    if accept:
        if accept.strip() != shown:
            raise CommandError(f"{address} offers the host key {shown}, not {accept}")
        return SshHost(address, (offered,))
    if not sys.stdin.isatty():
        raise CommandError(
            f"{address} is not known yet, and offers the host key {shown}: compare it with what"
            f" `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints there, then add"
            f" --accept-key {shown}"
        )
    say(f"{address} is not known yet. It offers the host key {shown}")
    say("On the host, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints the real one.")
    if not confirm("Are they the same?"):
        raise CommandError("the host key was not accepted")
    remember(known, address, offered)
    return SshHost(address, (offered,))


def remember(known: Path, address: HostAddress, key: str) -> None:
    """Add a host's key to a file of known hosts. Raises OSError."""
    known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    plain = address.port == SSH_PORT
    name = address.host if plain else f"[{address.host}]:{address.port}"
    with known.open("a+", encoding="utf-8") as file:
        file.seek(0)
        whole = file.read()
        file.write(f"{'' if not whole or whole.endswith(chr(10)) else chr(10)}{name} {key}\n")
