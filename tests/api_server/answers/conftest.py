"""Clusters on a stage, for the tests of the answers that clients get."""

from collections.abc import Iterator

import pytest
from tests.support.answers.stage import ServedClusters
from tests.support.edge import TlsFiles
from tests.support.simulated.process import joining_files_of


@pytest.fixture(scope="module")
def stages(tls: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedClusters]:
    """Return this module's stages; creating a node's secret files is not tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openvcha.operations.joining.admission.joining_files_of", joining_files_of)
        made = ServedClusters(tmp_path_factory.mktemp("stages"), tls)
        yield made
        made.close()
