"""One process on a home at a time."""

from pathlib import Path

import pytest

from consensus.primitives.errors import StorageError
from node.storage import HomeLock


def test_a_second_process_on_a_home_is_refused_with_the_owner(tmp_path: Path) -> None:
    with HomeLock(tmp_path), pytest.raises(StorageError, match=r"in use by process \d+: stop that node"):
        HomeLock(tmp_path)
    HomeLock(tmp_path).release()
