"""Recorded requests of the official SDK are understood, and replies it accepted reproduced."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.edge import WIRE

from openvcha.api.codec.decode import (
    decode_arguments_rest,
    decode_arguments_vapi,
    decode_error_vapi,
    decode_vapi,
    parse_json,
)
from openvcha.api.codec.encode import encode_error_vapi, encode_rest, encode_vapi
from openvcha.api.errors import ErrorType
from openvcha.api.operations import Operation, by_wire_name
from openvcha.api.secret import Secret
from openvcha.api.structures import CertificateInfo, IpFamily, TaskInfo, TaskStatus

MESSAGE = "com.vmware.vapi.std.localizable_message"
REQUESTS = sorted(path.name for path in WIRE.glob("*.request.json"))


def called(request: Mapping[str, Any]) -> Operation:
    params = request["params"]
    operation = by_wire_name(params["serviceId"], params["operationId"])
    assert operation is not None
    return operation


def complete(value: Any) -> Any:
    """Return the recorded value with the two optional message fields that its server left out."""
    if isinstance(value, list):
        return [complete(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: complete(item) for key, item in value.items()}
    if MESSAGE in inner:
        inner[MESSAGE] |= {"params": {"OPTIONAL": None}, "localized": {"OPTIONAL": None}}
    return inner


def arguments(wire: Mapping[str, Any], name: str) -> dict[str, Any]:
    request = wire[f"{name}.request.json"]
    return decode_arguments_vapi(called(request), request["params"]["input"])


def test_there_is_something_to_compare() -> None:
    """The recordings exist."""
    assert len(REQUESTS) == 25


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_understood(name: str, wire: Mapping[str, Any]) -> None:
    """Each request is decoded, and encoded again to the same."""
    request = wire[name]
    operation = called(request)
    found = decode_arguments_vapi(operation, request["params"]["input"])
    assert list(found) == [parameter.name for parameter in operation.parameters]
    again = {each.name: encode_vapi(each.type, found[each.name]) for each in operation.parameters}
    assert again == request["params"]["input"]["STRUCTURE"]["operation-input"]


@pytest.mark.parametrize("name", REQUESTS)
def test_replies_are_what_we_send(name: str, wire: Mapping[str, Any]) -> None:
    """Each reply, decoded and encoded again by us, is byte for byte what the SDK accepted."""
    result = wire[name.replace("request", "reply")]["result"]
    if "error" in result:
        encoded = encode_error_vapi(decode_error_vapi(result["error"]))
        assert json.dumps(encoded) == json.dumps(complete(result["error"]))
        return
    tp = called(wire[name]).reply
    value = decode_vapi(tp, result["output"])
    encoded = encode_vapi(tp, value)
    assert json.dumps(encoded) == json.dumps(complete(result["output"]))


def test_redeploy_with_everything(wire: Mapping[str, Any]) -> None:
    """A full redeploy request arrives complete."""
    spec = arguments(wire, "redeploy_task.ipv4")["spec"]
    location = spec.vc_spec.active_location
    assert (location.hostname, location.port) == ("mgmt.vc.local", 443)
    assert location.password == Secret("secret")
    assert spec.placement.storage.datastore == "datastore-61"
    assert spec.ha_ip.ip_family is IpFamily.IPV4
    assert spec.ha_ip.ipv4.prefix == 24
    assert spec.failover_ip.ipv4.subnet_mask == "255.255.255.0"
    assert spec.failover_ip.ipv4.prefix is None


def test_redeploy_with_ipv6_and_with_little(wire: Mapping[str, Any]) -> None:
    """IPv6 addresses arrive; omitted fields are unset."""
    assert arguments(wire, "redeploy_task.ipv6")["spec"].ha_ip.ip_family is IpFamily.IPV6
    minimal = arguments(wire, "redeploy_task.minimal")["spec"]
    assert (minimal.vc_spec, minimal.ha_ip, minimal.failover_ip) == (None, None, None)


@pytest.mark.parametrize("name", ["redeploy_task.ipv4", "redeploy_task.ipv6", "check"])
def test_both_ways_say_the_same(name: str, wire: Mapping[str, Any]) -> None:
    """The same request over REST arrives as the same value."""
    operation = called(wire[f"{name}.request.json"])
    expected = arguments(wire, name)
    body = encode_rest(operation.parameters[0].type, expected["spec"])
    text = json.dumps(body).encode()
    assert decode_arguments_rest(operation, text, {}, []) == expected
    wrapped = json.dumps({"spec": body}).encode()
    assert decode_arguments_rest(operation, wrapped, {}, [], wrapped=True) == expected


def test_the_whole_request_is_read(wire: Mapping[str, Any]) -> None:
    """The real bytes of a request pass the limits of depth and size."""
    name = "redeploy_task.ipv4.request.json"
    assert parse_json((WIRE / name).read_bytes()) == wire[name]


def test_task_that_failed(wire: Mapping[str, Any]) -> None:
    """A task's error keeps its type and its data."""
    reply = wire["tasks.get.failed_unverified_peer.reply.json"]
    info = decode_vapi(TaskInfo, reply["result"]["output"])
    assert info.status is TaskStatus.FAILED
    assert info.error.error_type is ErrorType.UNVERIFIED_PEER
    assert info.error.data == CertificateInfo(ssl_thumbprint="AA:BB")


def test_error_with_its_cause(wire: Mapping[str, Any]) -> None:
    """The first message of an error is the caller's view, the next its cause."""
    reply = wire["redeploy_task.err_invalid_argument.reply.json"]
    error = decode_error_vapi(reply["result"]["error"])
    assert error.error_type is ErrorType.INVALID_ARGUMENT
    assert [message.id for message in error.messages] == [
        "com.vmware.vcenter.vcha.invalid.credentials",
        "cause",
    ]
