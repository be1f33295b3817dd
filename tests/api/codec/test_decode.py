"""Strict decoding, the same in all protocols; errors name the field by its path."""

import copy
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from openvcha.api.codec.decode import decode_rest, decode_vapi
from openvcha.api.codec.encode import encode_vapi
from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.secret import Secret
from openvcha.api.structures import (
    DatastoreSummary,
    DeploySpec,
    DiskSpec,
    HostSummary,
    IpFamily,
    IpSpec,
    LocalizableMessage,
    PassiveRedeploySpec,
    SessionInfo,
    TaskFilterSpec,
    TaskStatus,
    UndeploySpec,
)

PREFIX = "com.vmware.vcenter.vcha."
MISSING = object()


def full() -> dict[str, Any]:
    """Return a redeploy specification with every field set, as REST has it."""
    return {
        "vc_spec": {
            "active_location": {
                "hostname": "vc.example",
                "port": 443,
                "ssl_thumbprint": "AA:BB",
                "username": "administrator@vsphere.local",
                "password": "secret",
            }
        },
        "placement": {
            "name": "passive",
            "folder": "group-v3",
            "host": "host-11",
            "ha_network": "dvportgroup-16",
            "ha_network_type": "DISTRIBUTED_PORTGROUP",
            "storage": {"datastore": "datastore-14"},
        },
        "ha_ip": {
            "ip_family": "IPV4",
            "ipv4": {"address": "192.168.9.2", "prefix": 24},
            "dns_servers": ["10.0.0.1"],
        },
        "failover_ip": {"ip_family": "IPV6", "ipv6": {"address": "2001:db8::9", "prefix": 64}},
    }


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the full specification with one value replaced, or removed."""
    document = full()
    *parents, last = path.removeprefix("spec.").split(".")
    inner = document
    for name in parents:
        inner = inner[name]
    if value is MISSING:
        del inner[last]
    else:
        inner[last] = value
    return document


def wrap(tp: Any, value: Any) -> Any:
    """Return what vAPI makes of a value that REST takes."""
    return encode_vapi(tp, decode_rest(tp, value))


def refused(decode: Callable[[], object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        decode()
    return caught.value


def rest(value: Any, path: str = "spec") -> ApiError:
    return refused(lambda: decode_rest(PassiveRedeploySpec, value, path))


def vapi(value: Any, path: str = "spec") -> ApiError:
    return refused(lambda: decode_vapi(PassiveRedeploySpec, value, path))


def check(error: ApiError, cause: str, *arguments: str) -> None:
    """Check that the error is INVALID_ARGUMENT for the field, with this cause."""
    assert error.error_type is ErrorType.INVALID_ARGUMENT
    top, beneath = error.messages
    assert (top.id, top.args) == ("vapi.data.structure.field.invalid", (arguments[0],))
    assert beneath.id.removeprefix(PREFIX) == cause
    assert beneath.args[: len(arguments)] == arguments


def test_everything_set() -> None:
    """A full specification arrives complete."""
    spec = decode_rest(PassiveRedeploySpec, full())
    assert spec.vc_spec.active_location.password == Secret("secret")
    assert spec.placement.storage == DiskSpec(datastore="datastore-14")
    assert spec.ha_ip.ip_family is IpFamily.IPV4
    assert spec.ha_ip.dns_servers == ("10.0.0.1",)
    assert decode_vapi(PassiveRedeploySpec, wrap(PassiveRedeploySpec, full())) == spec


@pytest.mark.parametrize(
    "path",
    [
        "spec.failover_addr",
        "spec.placement.Name",
        "spec.placement.storage.data_store",
        "spec.vc_spec.active_location.passwd",
        "spec.ha_ip.ipv4.netmask",
    ],
)
@pytest.mark.parametrize("value", [1, None, "x", {}])
def test_unknown_fields(path: str, value: object) -> None:
    """An unknown field is UNEXPECTED_INPUT with its path, whatever its value, including null."""
    error = rest(changed(path, value))
    assert error.error_type is ErrorType.UNEXPECTED_INPUT
    (message,) = error.messages
    assert message.id == "vapi.data.structure.field.unexpected"
    assert message.args[0] == path
    assert message.args[1].startswith("com.vmware.vcenter.vcha.")


@pytest.mark.parametrize(
    "path",
    [
        "spec.placement",
        "spec.placement.name",
        "spec.placement.folder",
        "spec.ha_ip.ip_family",
        "spec.ha_ip.ipv4.address",
        "spec.failover_ip.ipv6.prefix",
        "spec.vc_spec.active_location",
        "spec.vc_spec.active_location.hostname",
    ],
)
@pytest.mark.parametrize("value", [MISSING, None])
def test_missing_fields(path: str, value: object) -> None:
    """A required field that is omitted or null is missing, by its path."""
    document = changed(path, value)
    if path == "spec.vc_spec.active_location" and value is MISSING:
        document["vc_spec"]["active_location"] = None  # an empty vc_spec would count as unset
    check(rest(document), "vapi.data.structure.field.missing", path)


@pytest.mark.parametrize(
    ("path", "value", "wanted", "kind"),
    [
        ("spec.placement", [], "an object", "a list"),
        ("spec.placement", "x", "an object", "a string"),
        ("spec.placement.name", 1, "a string", "an integer"),
        ("spec.placement.folder", True, "a string", "a boolean"),
        ("spec.placement.storage", 0, "an object", "an integer"),
        ("spec.placement.ha_network_type", 1.5, "a string", "a number"),
        ("spec.vc_spec", False, "an object", "a boolean"),
        ("spec.vc_spec.active_location.port", "443", "an integer", "a string"),
        ("spec.vc_spec.active_location.port", True, "an integer", "a boolean"),
        ("spec.vc_spec.active_location.port", 443.0, "an integer", "a number"),
        ("spec.vc_spec.active_location.password", {"SECRET": "x"}, "a string", "an object"),
        ("spec.ha_ip.dns_servers", "10.0.0.1", "a list", "a string"),
        ("spec.failover_ip.ipv6.prefix", False, "an integer", "a boolean"),
    ],
)
def test_wrong_types(path: str, value: object, wanted: str, kind: str) -> None:
    """A value of another type is refused; nothing is converted, not even true to 1."""
    check(rest(changed(path, value)), "decode.type", path, wanted, kind)


@pytest.mark.parametrize(
    ("value", "place"), [([1], "[0]"), (["a", None], "[1]"), (["a", "b", []], "[2]")]
)
def test_wrong_types_in_lists(value: list[Any], place: str) -> None:
    """An element of a list is named by its index."""
    error = rest(changed("spec.ha_ip.dns_servers", value))
    check(error, "decode.type", f"spec.ha_ip.dns_servers{place}", "a string")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
def test_integers_out_of_range(value: int) -> None:
    """Integers are signed and have 64 bits."""
    path = "spec.vc_spec.active_location.port"
    check(rest(changed(path, value)), "decode.range", path)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 0])
def test_integers_at_the_ends_of_the_range(value: int) -> None:
    """The limits themselves are valid."""
    summary = {"datastore": "d", "name": "n", "type": "NFS", "capacity": value}
    assert decode_rest(DatastoreSummary, summary).capacity == value


@pytest.mark.parametrize("value", ["ipv4", "IPV5", "IPV4 "])
def test_bad_enumeration(value: str) -> None:
    """An unknown value is refused, and the error lists the valid ones."""
    error = rest(changed("spec.ha_ip.ip_family", value))
    check(error, "decode.enum", "spec.ha_ip.ip_family", "IPV4, IPV6")


def test_union_of_the_family() -> None:
    """`ip_family` selects the branch: that one must be set, and no other."""
    check(
        rest(changed("spec.ha_ip.ipv4", None)),
        "decode.union.missing",
        "spec.ha_ip.ipv4",
        "ip_family",
        "IPV4",
    )
    check(
        rest(changed("spec.ha_ip.ip_family", "IPV6")),
        "decode.union.missing",
        "spec.ha_ip.ipv6",
        "ip_family",
        "IPV6",
    )
    check(
        rest(changed("spec.ha_ip.ipv6", {"address": "::1", "prefix": 64})),
        "decode.union.extra",
        "spec.ha_ip.ipv6",
        "ip_family",
        "IPV4",
    )


def test_union_of_another_kind() -> None:
    """The rule applies to every structure with a union."""
    host = {"host": "host-1", "name": "h", "connection_state": "CONNECTED"}
    error = refused(lambda: decode_rest(HostSummary, host))
    check(error, "decode.union.missing", "power_state")
    assert decode_rest(HostSummary, host | {"connection_state": "DISCONNECTED"})


@pytest.mark.parametrize(
    ("path", "empty"),
    [
        ("spec.vc_spec", {}),
        ("spec.ha_ip", {}),
        ("spec.placement.host", ""),
        ("spec.placement.storage", {}),
        ("spec.placement.storage.datastore", ""),
        ("spec.vc_spec.active_location.password", ""),
        ("spec.ha_ip.dns_servers", []),
        ("spec.ha_ip.default_gateway", ""),
        ("spec.vc_spec.active_location.port", None),
    ],
)
def test_null_absent_and_empty_optionals_are_alike(path: str, empty: object) -> None:
    """However a client omits an optional, it is unset."""
    document = changed(path, None)
    expected = decode_rest(PassiveRedeploySpec, document)
    assert decode_rest(PassiveRedeploySpec, changed(path, empty)) == expected
    others: tuple[object, ...] = ("", [], {})
    for other in others:
        if other != empty:  # an empty value of another type is of a wrong type
            check(rest(changed(path, other)), "decode.type", f"spec.{path.removeprefix('spec.')}")
    without = full() if path.endswith("gateway") else changed(path, MISSING)
    assert decode_rest(PassiveRedeploySpec, without) == expected


def test_false_and_zero_are_set() -> None:
    """False and 0 are values, not empty."""
    assert decode_rest(UndeploySpec, {"force_delete": False}).force_delete is False
    summary = {"datastore": "d", "name": "n", "type": "NFS", "free_space": 0}
    assert decode_rest(DatastoreSummary, summary).free_space == 0


def test_required_values_may_be_empty() -> None:
    """Only optionals are unset by being empty; a required list or string may be empty."""
    message = {"id": "", "default_message": "", "args": []}
    assert decode_rest(LocalizableMessage, message) == LocalizableMessage(
        id="", default_message="", args=()
    )


def test_nothing_of_the_value_is_shown() -> None:
    """A password in the wrong place, or of the wrong type, is not quoted in the error."""
    for document in (
        changed("spec.vc_spec.active_location.password", ["hunter2"]),
        changed("spec.vc_spec.active_location.port", "hunter2"),
        changed("spec.vc_spec.active_location", "hunter2"),
        changed("spec.ha_ip.ip_family", "hunter2"),
    ):
        assert "hunter2" not in repr(rest(document).messages)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T07:30:00.123Z", datetime(2026, 11, 23, 7, 30, 0, 123000, UTC)),
        ("2026-11-23T07:30:00Z", datetime(2026, 11, 23, 7, 30, tzinfo=UTC)),
        ("2026-11-23T09:30:00+02:00", datetime(2026, 11, 23, 7, 30, tzinfo=UTC)),
    ],
)
def test_times(text: str, expected: datetime) -> None:
    """Times are in RFC 3339 and are converted to UTC."""
    session = {"user": "u", "created_time": text, "last_accessed_time": text}
    assert decode_rest(SessionInfo, session).created_time == expected
    assert decode_rest(SessionInfo, session).created_time.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23",
        "2026-11-23T07:30:00",
        "2026-13-23T07:30:00Z",
        "20261123T073000Z",
        "0001-01-01T00:00:00+23:59",
        "2026-11-23T07:30:00Z\n",
        "٢026-11-23T07:30:00Z",
    ],
)
def test_bad_times(text: str) -> None:
    """A time without a zone, or out of range, is refused."""
    session = {"user": "u", "created_time": text, "last_accessed_time": text}
    error = refused(lambda: decode_rest(SessionInfo, session, "value"))
    check(error, "decode.time", "value.created_time")


def test_sets_and_structures_in_lists() -> None:
    """Sets ignore order; paths go through lists of structures."""
    spec = decode_rest(TaskFilterSpec, {"status": ["FAILED", "RUNNING"]})
    assert spec.status == {TaskStatus.RUNNING, TaskStatus.FAILED}
    targets = {"targets": [{"type": "t", "id": "i"}, {"type": "t"}]}
    error = refused(lambda: decode_rest(TaskFilterSpec, targets, "filter_spec"))
    check(error, "vapi.data.structure.field.missing", "filter_spec.targets[1].id")


def test_a_set_has_each_element_once() -> None:
    """As in the SDK; the duplicate is named."""
    twice = ["FAILED", "RUNNING", "FAILED"]
    error = refused(lambda: decode_rest(TaskFilterSpec, {"status": twice}, "filter_spec"))
    check(error, "decode.duplicate", "filter_spec.status[2]")


def test_paths_through_maps() -> None:
    """An entry of a map is named by its key."""
    message = {"id": "i", "default_message": "m", "args": [], "params": {"k": {"i": "1"}}}
    error = refused(lambda: decode_rest(LocalizableMessage, message, "m"))
    check(error, "decode.type", "m.params[k].i", "an integer", "a string")


@pytest.mark.parametrize("value", [float("inf"), 10**400, True])
def test_doubles_are_finite(value: object) -> None:
    """A double is a finite number."""
    message = {"id": "i", "default_message": "m", "args": [], "params": {"k": {"d": value}}}
    with pytest.raises(ApiError):
        decode_rest(LocalizableMessage, message)


def test_deploy_spec() -> None:
    """The largest specification follows the same rules."""
    ip = {"ip_family": "IPV4", "ipv4": {"address": "10.1.0.1", "prefix": 24}}
    spec = {
        "deployment": "AUTO",
        "active": {"ha_ip": ip},
        "passive": {"ha_ip": ip},
        "witness": {"ha_ip": ip},
    }
    assert decode_rest(DeploySpec, spec).witness.ha_ip == decode_rest(IpSpec, ip)
    broken = copy.deepcopy(spec) | {"witness": {"ha_ip": {"ip_family": "IPV6"}}}
    error = refused(lambda: decode_rest(DeploySpec, broken, "spec"))
    check(error, "decode.union.missing", "spec.witness.ha_ip.ipv6")


# vAPI's wrappers.

SPEC = "com.vmware.vcenter.vcha.cluster.passive.redeploy_spec"
PLACEMENT = "com.vmware.vcenter.vcha.placement_spec"


def wrapped_placement(**fields: object) -> dict[str, Any]:
    inner = {"name": "passive", "folder": "group-v3"} | fields
    return {"STRUCTURE": {SPEC: {"placement": {"STRUCTURE": {PLACEMENT: inner}}}}}


def test_wrapped_optionals_may_be_absent() -> None:
    """An optional that is omitted, null or an empty wrapper is unset."""
    expected = decode_rest(
        PassiveRedeploySpec, {"placement": {"name": "passive", "folder": "group-v3"}}
    )
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"host": None},
        {"host": {"OPTIONAL": None}},
        {"host": {"OPTIONAL": ""}},
        {"storage": {"OPTIONAL": {}}},
        {"storage": {"OPTIONAL": {"STRUCTURE": {"com.vmware.vcenter.vcha.disk_spec": {}}}}},
    )
    for fields in ways:
        assert decode_vapi(PassiveRedeploySpec, wrapped_placement(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "cause", "path"),
    [
        ({"host": "host-11"}, "decode.wrapper", "host"),
        ({"host": {}}, "decode.wrapper", "host"),
        ({"host": {"OPTIONAL": "h", "x": 1}}, "decode.wrapper", "host"),
        ({"host": {"optional": "h"}}, "decode.wrapper", "host"),
        ({"host": {"OPTIONAL": {"OPTIONAL": "h"}}}, "decode.type", "host"),
        ({"name": {"OPTIONAL": "n"}}, "decode.type", "name"),
        ({"name": {"SECRET": "n"}}, "decode.type", "name"),
        ({"storage": {"OPTIONAL": {"datastore": "d"}}}, "decode.wrapper", "storage"),
        ({"storage": {"OPTIONAL": {"STRUCTURE": {}}}}, "decode.name", "storage"),
        ({"storage": {"OPTIONAL": {"STRUCTURE": {"a": {}, "b": {}}}}}, "decode.name", "storage"),
        ({"storage": {"OPTIONAL": {"STRUCTURE": {"a": {}}}}}, "decode.structure", "storage"),
        ({"ha_network_type": {"OPTIONAL": "X"}}, "decode.enum", "ha_network_type"),
    ],
)
def test_wrong_wrappers(fields: Mapping[str, Any], cause: str, path: str) -> None:
    """A wrapper that is missing, wrong or has extra keys is refused by the path of its field."""
    check(vapi(wrapped_placement(**fields)), cause, f"spec.placement.{path}")


def test_secrets_are_wrapped() -> None:
    """A password that is not wrapped as a secret is refused."""
    document = wrap(PassiveRedeploySpec, full())
    text = json.dumps(document).replace('{"SECRET": "secret"}', '"secret"')
    error = vapi(json.loads(text))
    check(error, "decode.wrapper", "spec.vc_spec.active_location.password", "SECRET")


def test_unknown_fields_in_wrappers() -> None:
    """An unknown field is found inside wrappers too."""
    error = vapi(wrapped_placement(nonsense={"OPTIONAL": None}))
    assert error.error_type is ErrorType.UNEXPECTED_INPUT
    assert error.messages[0].args == ("spec.placement.nonsense", PLACEMENT)


def entry(**fields: object) -> dict[str, Any]:
    return {"STRUCTURE": {"map-entry": fields}}


def test_maps_are_lists_of_entries() -> None:
    """A map is a list of entries with key and value, each key once."""
    tp = dict[str, bool]
    assert decode_vapi(tp, [entry(key="a", value=True), entry(key="b", value=False)]) == {
        "a": True,
        "b": False,
    }
    for value, cause, path in (
        ({"a": True}, "decode.type", "m"),
        ([entry(key="a")], "decode.entry", "m[0]"),
        ([entry(key="a", value=True, more=1)], "decode.entry", "m[0]"),
        ([entry(key="a", value=True), entry(key="a", value=True)], "decode.duplicate", "m[1]"),
        ([{"STRUCTURE": {"entry": {}}}], "decode.structure", "m[0]"),
        ([entry(key="a", value=1)], "decode.type", "m[0]"),
    ):
        check(refused(lambda value=value: decode_vapi(tp, value, "m")), cause, path)  # type: ignore[misc]  # a default argument of a lambda


def test_void_is_null() -> None:
    """An absent result is null in both encodings."""
    for decode in (decode_rest, decode_vapi):
        assert decode(None, None) is None
        check(refused(lambda decode=decode: decode(None, 1, "x")), "decode.type", "x")  # type: ignore[misc]  # as above
