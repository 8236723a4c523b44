"""Snapshots: the old or the new one, never a mixture."""

from pathlib import Path

from node.snapshots import SnapshotMeta, Snapshots
from tests.helpers.votes import summarise

MIB = 1 << 20


def test_a_snapshot_replaces_changed_pages_only(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "state", 16 * MIB)
    assert snapshots.meta() is None
    first = SnapshotMeta(32, bytes(32), b"j" * 32, summarise(b"s" * 32))
    snapshots.write(first, [(1, 0, b"old"), (0, 3, b"kept")])
    second = SnapshotMeta(64, bytes(32), b"k" * 32, summarise(b"t" * 32))
    snapshots.write(second, [(1, 0, b"new")])
    snapshots.close()
    snapshots = Snapshots(tmp_path / "state", 16 * MIB)
    assert snapshots.meta() == second
    assert list(snapshots.pages()) == [(0, 3, b"kept"), (1, 0, b"new")]
