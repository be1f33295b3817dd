"""The API that a command calls: a lab's, or any other."""

import contextlib
import dataclasses
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from openvcha.api.secret import Secret
from openvcha.cli.accounts import readable_lab
from openvcha.cli.options import Base, Name
from openvcha.cli.passwords import read_password
from openvcha.cli.server import parse_server
from openvcha.client import trust
from openvcha.client.errors import CommandError
from openvcha.client.rest_client import ApiClient
from openvcha.lab.folders import DEFAULT_NAME
from openvcha.lab.state import ADMINISTRATOR, Lab

PANEL = "Which server, if not a lab"

Server = Annotated[
    str | None, typer.Option(help="https://HOST:PORT of another API.", rich_help_panel=PANEL)
]
User = Annotated[
    str | None,
    typer.Option(
        help="The user to log in as; default: the lab's administrator.", rich_help_panel=PANEL
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        allow_dash=True,
        help="A file with the user's password, or - for standard input; default: a prompt.",
        rich_help_panel=PANEL,
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option(help="The authority that issued the server's certificate.", rich_help_panel=PANEL),
]
Thumbprint = Annotated[
    str | None,
    typer.Option(
        help="The SHA-256 thumbprint of the server's certificate, instead of --ca.",
        rich_help_panel=PANEL,
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """The options that select the API."""

    name: Name = DEFAULT_NAME
    base: Base = None
    server: Server = None
    user: User = None
    password_file: PasswordFile = None
    ca: Ca = None
    thumbprint: Thumbprint = None

    @asynccontextmanager
    async def api(self) -> AsyncIterator[ApiClient]:
        """Yield a client with a session. Raises CommandError, RequestRefused, ServerUnreachable."""
        if self.server is not None:
            async with self._other_server(self.server) as found:
                yield found
            return
        if self.ca or self.thumbprint:
            raise CommandError("--ca and --thumbprint need --server; a lab's certificate is known")
        # Imported here: a command for another server needs no infrastructure.
        from openvcha.lab.access import client  # noqa: PLC0415

        lab = readable_lab(self.name, self.base)
        user = self.user or ADMINISTRATOR
        password = self._password_for(lab, user)
        async with client(lab) as found, found.session(user, password):
            yield found

    def become_reader(self) -> None:
        """Become the account that may read the lab, before reading standard input."""
        if self.server is None:
            with contextlib.suppress(CommandError):  # reported when the lab is used
                readable_lab(self.name, self.base)

    def lab(self) -> Lab | None:
        """Return the selected lab; None for another server."""
        return None if self.server else readable_lab(self.name, self.base)

    def _password_for(self, lab: Lab, user: str) -> Secret:
        if self.password_file is None and lab.knows(user):
            return lab.password(user)
        return read_password(self.password_file, f"Password of {user}")

    @asynccontextmanager
    async def _other_server(self, server: str) -> AsyncIterator[ApiClient]:
        where = parse_server(server)
        if self.user is None:
            raise CommandError("--server needs --user")
        if self.ca and self.thumbprint:
            raise CommandError("use --ca or --thumbprint, not both")
        password = read_password(self.password_file, f"Password of {self.user}")
        if self.thumbprint:
            tls = await trust.tls_by_thumbprint(where.host, where.port, self.thumbprint)
        else:
            tls = trust.tls_by_authority(self.ca)
        async with ApiClient(where.url, tls) as found, found.session(self.user, password):
            yield found


def with_target(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of Target to a command, which gets them as the argument ``target``."""
    signature = inspect.signature(function)
    own = [p for name, p in signature.parameters.items() if name != "target"]
    fields = dataclasses.fields(Target)
    more = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for field in fields
    ]

    def command(**arguments: Any) -> None:
        target = Target(**{field.name: arguments.pop(field.name) for field in fields})
        target.become_reader()
        function(**arguments, target=target)

    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    command.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]  # inspect reads it
    command.__annotations__ = {p.name: p.annotation for p in (*own, *more)}
    return command
