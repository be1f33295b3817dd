"""`vcha openapi`."""

from openvcha.cli.saying import say_json
from openvcha.protocols.openapi import document


def openapi() -> None:
    """Print the OpenAPI 3.0.3 description of the API."""
    say_json(document(), indent=2)
