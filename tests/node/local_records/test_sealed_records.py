"""A data node's local copies of the cluster's records."""

from pathlib import Path

from openvcha.node.layout import Layout
from openvcha.node.local_records.sealed_records import KEPT, KeptRecords, forget_kept
from openvcha.store import keys
from openvcha.store.sealing.kept import GoodValue


def test_the_value_and_its_age_outlive_the_process(tmp_path: Path) -> None:
    """An unreadable file counts as missing; a reader writes nothing."""
    layout = Layout(tmp_path)
    kept, looking = KeptRecords(layout, writes=True), KeptRecords(layout, writes=False)
    looking.save(keys.CLUSTER, GoodValue(b"{}", 1))
    assert kept.load(keys.CLUSTER) is None
    good = GoodValue(b'{"a":\n1}', 7)
    kept.save(keys.CLUSTER, good)
    assert kept.load(keys.CLUSTER) == looking.load(keys.CLUSTER) == good
    assert KeptRecords(layout, writes=True).load(keys.CLUSTER) == good
    for damaged in (b"", b"{}", b"x\n{}", b"-1\n{}"):
        (layout.kept_records / KEPT[keys.CLUSTER]).write_bytes(damaged)
        assert looking.load(keys.CLUSTER) is None
    forget_kept(layout)
    assert looking.load(keys.CLUSTER) is None
