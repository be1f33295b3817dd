"""Fixtures for the API contract: the official SDK, and the recorded wire examples."""

import importlib
import inspect
import json
import warnings
from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import pytest
from tests.support.edge import WIRE

MODULES = (
    "com.vmware.vapi.std_client",
    "com.vmware.vapi.std.errors_client",
    "com.vmware.cis_client",
    "com.vmware.cis.task_client",
    "com.vmware.vcenter_client",
    "com.vmware.vcenter.vm_client",
    "com.vmware.vcenter.vcha_client",
    "com.vmware.vcenter.vcha.cluster_client",
)

# The SDK reads its own messages in a way that Python has deprecated; that warning is not ours.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    SDK: Mapping[str, ModuleType] = MappingProxyType(
        {name: importlib.import_module(name) for name in MODULES}
    )
    for name in ("bindings.converter", "data.serializers.jsonrpc", "stdlib.client.factories"):
        importlib.import_module(f"vmware.vapi.{name}")


def bindings(module: ModuleType) -> Iterator[Any]:
    """Return every structure and enumeration of an SDK module, as its class."""
    waiting: list[Any] = [module]
    while waiting:
        for value in vars(waiting.pop()).values():
            if inspect.isclass(value) and value.__module__ == module.__name__:
                waiting.append(value)
                if hasattr(value, "get_binding_type"):
                    yield value


@pytest.fixture(scope="session")
def sdk() -> Mapping[str, ModuleType]:
    """Return the SDK's modules by name."""
    return SDK


@pytest.fixture(scope="session")
def sdk_classes() -> Mapping[str, Any]:
    """Return the SDK's classes of structures, errors and enumerations by their vAPI names."""
    return MappingProxyType(
        {cls.get_binding_type().name: cls for module in SDK.values() for cls in bindings(module)}
    )


@pytest.fixture(scope="session")
def sdk_names() -> Mapping[str, frozenset[str]]:
    """Return the vAPI names defined in each SDK module."""
    return MappingProxyType(
        {
            name: frozenset(cls.get_binding_type().name for cls in bindings(module))
            for name, module in SDK.items()
        }
    )


@pytest.fixture(scope="session")
def wire() -> Mapping[str, Any]:
    """Return the recorded requests and replies by file name."""
    return MappingProxyType(
        {path.name: json.loads(path.read_bytes()) for path in sorted(WIRE.glob("*.json"))}
    )
