"""Conversion of command line arguments into a REST call."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from openvcha.api.operations import Operation
from openvcha.api.types import BooleanType, DoubleType, IntegerType, ListType, SecretType, SetType
from openvcha.cli.operation_help import (
    Leaf,
    body_leaves,
    describe_type,
    method_and_path,
    path_leaves,
    query_leaves,
)
from openvcha.client.errors import CommandError


@dataclass
class RestCall:
    """A REST call under /api."""

    method: str
    path: str
    body: Any = None
    query: list[tuple[str, str]] = field(default_factory=list)


def build(operation: Operation, body: str | None, params: Sequence[str]) -> RestCall:
    """Return the call with path, query and body. Raises CommandError for invalid arguments."""
    given = [_pair(text) for text in params]
    method, path = method_and_path(operation).split(" ", 1)
    call = RestCall(method, path, _read_body(body))
    paths = {leaf.name: leaf for leaf in path_leaves(operation)}
    queries = {leaf.name: leaf for leaf in query_leaves(operation)}
    bodies = {leaf.name: leaf for leaf in body_leaves(operation)}
    if call.body is not None and not bodies:
        raise CommandError(f"{operation.id} takes no body")
    for name, text in given:
        if name in paths:
            call.path = call.path.replace(f"{{{name}}}", quote(text, safe=":"))
        elif name in queries:
            call.query.append((name, text))
        elif name in bodies:
            call.body = _set(call.body, bodies[name], text)
        else:
            known = ", ".join((*paths, *queries, *bodies)) or "none"
            raise CommandError(f"{operation.id} has no parameter {name!r}; its parameters: {known}")
    if missing := [name for name in paths if f"{{{name}}}" in call.path]:
        raise CommandError(f"{operation.id} needs --param {missing[0]}=…")
    return call


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CommandError(f"--param {text!r} is not NAME=VALUE")
    return name, value


def _read_body(text: str | None) -> Any:
    if text is None:
        return None
    if text == "-":
        source, content = "standard input", sys.stdin.read()
    elif text.startswith("@"):
        source, content = text[1:], Path(text[1:]).read_text()
    else:
        source, content = "the body", text
    try:
        return json.loads(content)
    except ValueError as error:
        raise CommandError(f"{source} is not JSON: {error}") from error


def _set(body: Any, leaf: Leaf, text: str) -> Any:
    """Set one value, and create the objects around it; repeated names append to a list."""
    root = {} if body is None else body
    *around, last = leaf.name.split(".")
    place = root
    for name in around:
        place = place.setdefault(name, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise CommandError(f"cannot set {leaf.name}: it conflicts with another value in the body")
    if isinstance(leaf.type, ListType | SetType):
        place.setdefault(last, []).append(_value(leaf, text))
    else:
        place[last] = _value(leaf, text)
    return root


def _value(leaf: Leaf, text: str) -> Any:
    """Return a text as a JSON value of the type; the server validates the rest."""
    if isinstance(leaf.type, SecretType):
        raise CommandError(
            f"{leaf.name} is a secret, which other users could see on a command line; pass"
            " the body as @FILE or - (standard input)"
        )
    element = leaf.type.element if isinstance(leaf.type, ListType | SetType) else leaf.type
    if not isinstance(element, BooleanType | IntegerType | DoubleType):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"{leaf.name} must be {describe_type(element)}, not {text!r}") from error
