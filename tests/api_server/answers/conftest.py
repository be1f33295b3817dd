"""Clusters on a stage, for the tests of the answers that clients get."""

from collections.abc import Iterator

import pytest
from tests.support.answers.stage import ServedClusters
from tests.support.edge import TlsFiles
from tests.support.simulated.process import files_of

from openvcha.operations.context import Services
from openvcha.operations.steps.new_node import NewNode


@pytest.fixture(scope="module")
def stages(tls: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedClusters]:
    """Return this module's stages; creating a node's secret files is not tested here."""

    async def joining_files(services: Services, node: NewNode, _: bytes) -> dict[str, bytes]:
        return await files_of(services, node)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openvcha.operations.steps.create_node.files_of", files_of)
        patch.setattr("openvcha.operations.manual_join.joining_files_of", joining_files)
        made = ServedClusters(tmp_path_factory.mktemp("stages"), tls)
        yield made
        made.close()
