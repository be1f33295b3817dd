"""The description and the server accept the same generated inputs.

One rule is excluded on both sides, as the description states it in words: an optional that is null,
or empty for its type, is unset.
"""

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.support.schema_agrees import _bare, schema_takes

from openvcha.api.codec.decode import decode_arguments_rest
from openvcha.api.errors import ApiError, ErrorType, fail
from openvcha.api.messages import PREFIX, message
from openvcha.api.operations import OPERATIONS, Operation
from openvcha.api.structures import (
    AuditFilterSpec,
    CredentialsSpec,
    EventFilterSpec,
    IpSpec,
    JoinSpec,
)
from openvcha.api.types import (
    BooleanType,
    EnumType,
    IntegerType,
    ListType,
    OptionalType,
    SetType,
    StructType,
    Structure,
    Type,
    descriptor,
)
from openvcha.events.audit import MAX_LISTED
from openvcha.events.log import MAX_EVENTS, checked_limit, event_number
from openvcha.infrastructure.addresses import address_of
from openvcha.infrastructure.placement import usable_name
from openvcha.operations.peers.identity import require_usable
from openvcha.tasks.journal import require_selective

EXAMPLES = 300
WITH_BODY = [each for each in OPERATIONS if each.body_parameters]
TEXTS = ("text", "a b", "x" * 81, "x" * 254, "\u00e4", "n\n", "..", "1", "host-11")
NUMBERS = (-(2**63) - 1, -1, 0, 1, 32, 33, 128, 129, 65535, 65536, 2**31, 2**63 - 1, 2**63)
ODD: tuple[Any, ...] = (
    None,
    "",
    [],
    {},
    0,
    True,
    False,
    1.5,
    "text",
    ["text"],
    {"a": 1},
    [None],
    [["text"]],
)
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
GOOD: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("connection_spec", "hostname"): ("vc.example", "10.0.0.1", "2001:db8::1", "vc_1.example."),
    ("connection_spec", "port"): (443,),
    ("connection_spec", "ssl_thumbprint"): ("A1:" * 19 + "b2", "ab" * 32),
    ("connection_spec", "ssl_certificate"): (PEM,),
    ("ip_spec", "default_gateway"): ("10.0.0.254",),
    ("ip_spec", "dns_servers"): (["10.0.0.53"],),
    ("ipv4_spec", "address"): ("10.0.0.7", "1.2.3.256", "01.2.3.4"),
    ("ipv4_spec", "subnet_mask"): ("255.255.255.0",),
    ("ipv4_spec", "prefix"): (24,),
    ("ipv6_spec", "address"): ("2001:db8::7", "1:2:3:4:5:6:1.2.3.4", "0" * 46),
    ("ipv6_spec", "prefix"): (64,),
    ("join_spec", "name"): ("passive", "A b_c-1", "-a", "a.", "a" * 80, "a" * 81),
}
"""By the end of the structure's name, and the field: values of which some are right."""
CONTENT = frozenset(
    f"{PREFIX}{each}"
    for each in (
        "peer.certificate.malformed",
        "address.disagree",
        "address.family",
        "address.gateway.outside",
        "address.gateway.self",
        "address.mask",
        "address.syntax",
        "address.unusable",
    )
)
"""Refusals for what no schema can say: of two fields together, or of what a text holds."""


class Inputs:
    """Generates mostly valid inputs; the same ones in each run."""

    def __init__(self, name: str) -> None:
        self._random = random.Random(name)

    def body(self, operation: Operation) -> Any:
        """Return a body of an operation."""
        if operation.body_is_spec:
            return self.value(_bare(descriptor(operation.body_parameters[0].type)), "")
        types = {each.name: descriptor(each.type) for each in operation.body_parameters}
        return self.object(types, "")

    def object(self, types: Mapping[str, Type], structure: str) -> dict[str, Any]:
        """Return an object, in which a field may be missing or superfluous."""
        made = {}
        for name, type_ in types.items():
            if not self._once_in(2 if isinstance(type_, OptionalType) else 50):
                made[name] = self.value(_bare(type_), structure, name)
        if self._once_in(100):
            made["unknown"] = self._random.choice(ODD)
        return made

    def value(self, type_: Type, structure: str, name: str = "") -> Any:
        """Return a value of a type, or of another one."""
        if self._once_in(30):
            return self._random.choice(ODD)
        good = GOOD.get((structure.rpartition(".")[2], name))
        if good is not None and not self._once_in(10):
            return self._random.choice(good)
        match type_:
            case StructType():
                return self._structure(type_)
            case ListType(element) | SetType(element):
                return [self.value(element, structure) for _ in range(self._random.randrange(4))]
        return self._scalar(type_)

    def _scalar(self, type_: Type) -> Any:
        match type_:
            case EnumType():
                odd = ["NONSENSE"] if self._once_in(10) else []
                return self._random.choice(odd or type_.values)
            case IntegerType():
                return self._random.choice(NUMBERS)
            case BooleanType():
                return self._random.choice((True, False))
        return self._random.choice(TEXTS)

    def _structure(self, type_: StructType) -> Any:
        types = {field.name: field.type for field in type_.fields}
        union = type_.union
        if union is None or self._once_in(10):
            return self.object(types, type_.name)
        case = self._random.choice(sorted(union.cases))
        of_union = {union.discriminant, *(n for names in union.cases.values() for n in names)}
        made = self.object({n: t for n, t in types.items() if n not in of_union}, type_.name)
        chosen = {n: self.value(_bare(types[n]), type_.name, n) for n in union.cases[case]}
        return made | chosen | {union.discriminant: case}

    def _once_in(self, times: int) -> bool:
        return self._random.randrange(times) == 0


def refusals(operation: Operation, body: bytes) -> frozenset[str] | None:
    """Return the message ids of the server's refusal; None when it accepts."""
    path = dict.fromkeys((each.name for each in operation.path_parameters), "x")
    try:
        arguments = decode_arguments_rest(operation, body, path, [])
        for each in structures(arguments.values()):
            require_form(each)
        if operation.id == "com.vmware.cis.tasks.list":
            require_selective(arguments["filter_spec"])
    except ApiError as error:
        return frozenset(said.id for said in error.messages)
    return None


def structures(values: Any) -> Iterator[Structure]:
    for value in values:
        if isinstance(value, Structure):
            yield value
            yield from structures(getattr(value, name) for name in value.__struct_fields__)
        elif isinstance(value, tuple | frozenset | list):
            yield from structures(value)


def require_form(value: Structure) -> None:
    """Apply the rules that the operations apply before anything else."""
    match value:
        case CredentialsSpec():
            require_usable(value)
        case IpSpec():
            address_of(value, "spec")
        case JoinSpec(name=name) if not usable_name(name):
            fail(ErrorType.INVALID_ARGUMENT, message("join.name", name))
        case EventFilterSpec():
            checked_limit(value.limit, MAX_EVENTS)
            if value.after is not None:
                event_number(value.after)
        case AuditFilterSpec():
            checked_limit(value.limit, MAX_LISTED)


def compare(said: frozenset[str] | None, valid: bool, what: Any) -> None:
    """Compare the two verdicts."""
    if valid:
        assert said is None or said & CONTENT, (what, said)
    else:
        assert said is not None, what


@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda each: each.id)
def test_they_agree_about_a_body(operation: Operation) -> None:
    """In both directions, with inputs of each kind."""
    inputs, verdicts = Inputs(operation.id), set()
    for _ in range(EXAMPLES):
        body = inputs.body(operation)
        valid = schema_takes(operation, body)
        compare(refusals(operation, json.dumps(body).encode()), valid, body)
        verdicts.add(valid)
    assert verdicts == {True, False}
