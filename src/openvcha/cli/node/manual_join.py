"""`vcha node token`, `tokens` and `create`: nodes that an operator creates manually."""

import asyncio
import os
import shlex
import socket
import ssl
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from openvcha.api.secret import Secret
from openvcha.cli.accounts import act_as_owner, new_directory
from openvcha.cli.options import AsJson, program
from openvcha.cli.output.plain import say, say_json
from openvcha.cli.passwords import read_password
from openvcha.cli.server import parse_server
from openvcha.cli.target import Target, with_target
from openvcha.client import trust
from openvcha.client.errors import CommandError, RequestRefused, ServerUntrusted
from openvcha.node.join_client import JoinCall, is_refusal, receive_files
from openvcha.node.joining import JoinRefused, JoinRequest, abandon, begin, complete

TOKEN = "OPENVCHA_JOIN_TOKEN"  # noqa: S105 - the name of a variable
RETRY_LIMIT_SECONDS = 600.0


class RoleChoice(StrEnum):
    """The role of the new node."""

    PASSIVE = "passive"
    WITNESS = "witness"


Which = Annotated[RoleChoice, typer.Argument(help="The role of the node that joins.")]
Revoke = Annotated[
    bool, typer.Option("--revoke", help="Revoke the role's token instead of issuing one.")
]
Directory = Annotated[Path, typer.Argument(help="The new node's directory.", file_okay=False)]
JoinAt = Annotated[str, typer.Option("--join", help="https://HOST:PORT of the cluster's API.")]
RoleOption = Annotated[RoleChoice, typer.Option("--role", help="The node's role.")]
Address = Annotated[str, typer.Option(help="The node's HA address; this machine must have it.")]
NodeName = Annotated[
    str | None, typer.Option("--name", help="The node's name; default: vcha-ROLE.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        allow_dash=True, help=f"A file with the token, or - for standard input; default: ${TOKEN}."
    ),
]
Ca = Annotated[
    Path | None, typer.Option(help="The authority that issued the server's certificate.")
]
Thumbprint = Annotated[
    str | None,
    typer.Option(help="The SHA-256 thumbprint of the server's certificate, instead of --ca."),
]


@with_target
def token(role: Which, *, revoke: Revoke = False, as_json: AsJson = False, target: Target) -> None:
    """Print a token with which one node may join; shown once, it replaces the previous one."""
    if revoke:
        asyncio.run(_revoke(role, as_json, target))
    else:
        asyncio.run(_token(role, as_json, target))


@with_target
def tokens(*, as_json: AsJson = False, target: Target) -> None:
    """List the join tokens: who issued them, and whether they are valid and used."""
    asyncio.run(_tokens(as_json, target))


def create(
    directory: Directory,
    *,
    join: JoinAt,
    role: RoleOption,
    ha_address: Address,
    name: NodeName = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    thumbprint: Thumbprint = None,
) -> None:
    """Create a node that joins a cluster, in a new directory; run it with `vcha node run`.

    After a crash, the same command continues. The server's certificate is always verified.
    """
    parse_server(join)
    if ca and thumbprint:
        raise CommandError("use --ca or --thumbprint, not both")
    act_as_owner(directory)  # before reading anything from standard input
    if not thumbprint:
        trust.tls_by_authority(ca)
    secret = _read_token(token_file)
    wanted = JoinRequest(
        server=join.rstrip("/"), role=role, name=name or f"vcha-{role}", ha_address=ha_address
    )
    try:
        _require_address(ha_address)
        root = new_directory(directory)
        request = begin(root, wanted)
        complete(root, asyncio.run(_join(wanted, secret, request, ca, thumbprint)))
    except RequestRefused as error:
        if is_refusal(error):  # nothing is left to delete, and the command may be repeated
            abandon(root)
        raise
    except JoinRefused as error:
        raise CommandError(str(error)) from error
    say(f"{wanted.name} ({role}) is created; it joins as soon as it runs")
    say(f"  {program()} node run {shlex.quote(str(root))}")


async def _token(role: RoleChoice, as_json: bool, target: Target) -> None:
    async with target.api() as api:
        found = await api.call("POST", "/openvcha/join-tokens", {"role": role.value.upper()})
    if as_json:
        say_json(found)
        return
    say(found["token"])
    say(
        f"valid for one {role} at {found['ha_address']}, until {found['expires']}; not shown again",
        err=True,
    )


async def _revoke(role: RoleChoice, as_json: bool, target: Target) -> None:
    async with target.api() as api:
        body = {"role": role.value.upper()}
        await api.call("POST", "/openvcha/join-tokens?action=revoke", body)
    if as_json:
        say_json({**body, "revoked": True})
        return
    say(f"revoked the token of the {role}")


async def _tokens(as_json: bool, target: Target) -> None:
    async with target.api() as api:
        found = await api.call("GET", "/openvcha/join-tokens")
    if as_json:
        say_json(found)
        return
    if not found:
        say("there is no join token", err=True)
    for each in found:
        state = "used" if each["used"] else "not used"
        state += ", valid" if each["valid"] else ", not valid"
        say(
            f"{each['role'].lower()} at {each['ha_address']}: issued by {each['issuer']}, "
            f"until {each['expires']}, {state}"
        )


async def _join(
    wanted: JoinRequest, secret: Secret, request: bytes, ca: Path | None, thumbprint: str | None
) -> dict[str, bytes]:
    """Join, and return the node's files; retry while the API is busy or does not respond."""
    server = parse_server(wanted.server)
    if thumbprint:
        context = await trust.tls_by_thumbprint(server.host, server.port, thumbprint)
    else:
        context = trust.tls_by_authority(ca)

    async def tls(_: str) -> ssl.SSLContext:
        return context

    call = JoinCall((server.url,), tls, wanted, secret, request)
    try:
        return await receive_files(
            call, tell=lambda why: say(f"waiting: {why}", err=True), seconds=RETRY_LIMIT_SECONDS
        )
    except ServerUntrusted as error:
        raise CommandError(f"{error}; use --ca or --thumbprint") from error


def _read_token(file: Path | None) -> Secret:
    if file is None and (found := os.environ.get(TOKEN)):
        return Secret(found)
    return read_password(file, "Token", what="join token")


def _require_address(address: str) -> None:
    """Raise JoinRefused if no program on this machine could listen at the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise JoinRefused(f"this machine cannot use {address}: {error.strerror}") from error
    except (ValueError, TypeError) as error:  # a name that cannot be encoded
        raise JoinRefused(f"{address!r} is not an IP address") from error
