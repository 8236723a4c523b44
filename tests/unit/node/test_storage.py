"""One process on a home at a time; and what is wrong with a disk is told apart."""

import resource
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from consensus.primitives.errors import StorageError
from node.storage import HomeLock, open_environment, storage_errors


def test_a_second_process_on_a_home_is_refused_with_the_owner(tmp_path: Path) -> None:
    with HomeLock(tmp_path), pytest.raises(StorageError, match=r"in use by process \d+: stop that node"):
        HomeLock(tmp_path)
    HomeLock(tmp_path).release()


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow beyond 256 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_cut_short_for_want_of_room_is_a_full_disk(tmp_path: Path, small_files: None) -> None:
    """The kernel writes what fits, and LMDB calls the rest an I/O error."""
    env = open_environment(tmp_path / "db", 64 << 20, 0, "ledger.blocks_mib")
    with pytest.raises(StorageError, match=r"is full, or a limit .*: make room, then start the node again"):
        while True:
            with storage_errors(tmp_path / "db", "ledger.blocks_mib"), env.begin(write=True) as txn:
                txn.put(b"key", bytes(100 << 10))
                txn.put(b"other", bytes(100 << 10))
    env.close()


def test_an_error_with_room_left_is_damage(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="is damaged or unreadable"),
        storage_errors(tmp_path, "ledger.blocks_mib"),
    ):
        raise lmdb.CorruptedError("page")
