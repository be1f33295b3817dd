"""`vcha openapi`."""

from openvcha.api_server.openapi.document import document
from openvcha.cli.output.plain import say_json


def openapi() -> None:
    """Print the OpenAPI 3.0.3 description of the API."""
    say_json(document(), indent=2)
