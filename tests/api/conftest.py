"""What the tests of the contract share: the official SDK, and the recorded wire examples."""

import importlib
import inspect
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pytest

WIRE = Path(__file__).parent / "wire"

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

# The SDK reads its own messages in a way that Python has deprecated; that is not our warning.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    SDK: Mapping[str, ModuleType] = MappingProxyType(
        {name: importlib.import_module(name) for name in MODULES}
    )
    for name in ("bindings.converter", "data.serializers.jsonrpc", "stdlib.client.factories"):
        importlib.import_module(f"vmware.vapi.{name}")


def bindings(module: ModuleType) -> Iterator[Any]:
    """Every structure and enumeration of a module of the SDK, as its class."""
    waiting: list[Any] = [module]
    while waiting:
        for value in vars(waiting.pop()).values():
            if inspect.isclass(value) and value.__module__ == module.__name__:
                waiting.append(value)
                if hasattr(value, "get_binding_type"):
                    yield value


@pytest.fixture(scope="session")
def sdk() -> Mapping[str, ModuleType]:
    """The SDK's modules by name."""
    return SDK


@pytest.fixture(scope="session")
def sdk_classes() -> Mapping[str, Any]:
    """The SDK's classes of structures, errors and enumerations by their vAPI names."""
    return MappingProxyType(
        {cls.get_binding_type().name: cls for module in SDK.values() for cls in bindings(module)}
    )


@pytest.fixture(scope="session")
def sdk_names() -> Mapping[str, frozenset[str]]:
    """The vAPI names of what each of the SDK's modules has."""
    return MappingProxyType(
        {
            name: frozenset(cls.get_binding_type().name for cls in bindings(module))
            for name, module in SDK.items()
        }
    )


@pytest.fixture(scope="session")
def wire() -> Mapping[str, Any]:
    """The recorded requests and replies by file name."""
    return MappingProxyType(
        {path.name: json.loads(path.read_bytes()) for path in sorted(WIRE.glob("*.json"))}
    )
