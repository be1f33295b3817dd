"""The stage of the answers' tests: it ends with all that it began, whatever fails."""

import threading
from pathlib import Path

import pytest
from tests.support.answers.beginnings import healthy, single
from tests.support.answers.stage import ServedCluster, ServedClusters
from tests.support.edge import make_tls


async def fails() -> None:
    raise RuntimeError("the scene does not end")


def of_stages() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stage"]


def test_a_stage_that_does_not_end_well_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter would wait for it for ever; and the other stages end too."""
    stages = ServedClusters(tmp_path, make_tls(tmp_path))
    opened: list[ServedCluster] = [stages(begin) for begin in (single, healthy)]
    assert len(of_stages()) == 2
    for stage in opened:
        monkeypatch.setattr(stage.scene, "end", fails)
    with pytest.raises(RuntimeError, match="does not end"):
        stages.close()
    assert of_stages() == []
