"""`vcha openapi`."""

import json

import typer

from openvcha.protocols.openapi import document


def openapi() -> None:
    """Print the OpenAPI 3.0.3 description of the API."""
    typer.echo(json.dumps(document(), indent=2))
