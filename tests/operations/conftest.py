"""Scenes: a simulated cluster with a task, carried out by processes that start and die."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.simulated.clock import AtOnce
from tests.support.simulated.process import joining_files_of
from tests.support.simulated.scenes import ClusterScenario


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterScenario]:
    """Yield a simulated cluster with its tasks."""
    monkeypatch.setattr("openvcha.operations.joining.admission.joining_files_of", joining_files_of)
    asyncio.get_running_loop().set_default_executor(AtOnce())
    scene = ClusterScenario()
    yield scene
    await scene.end()
